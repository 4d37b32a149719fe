import type { Command } from "commander";
import { durationFromMs } from "../../../common/time.ts";
import type { Server } from "../../../proto/gen/convoke/v1/server_pb.js";
import { CliError } from "../cli-error.ts";
import { type CliContext, endpointOf } from "../context.ts";
import { forEachId, idsOf } from "../each-id.ts";
import { ExitCode } from "../exit-code.ts";
import { formatDuration, type OutputFormat } from "../options.ts";
import { printNamed } from "../output.ts";
import { serverResource } from "../resources/server.ts";
import { SERVER_WORDS } from "../words.ts";
import { describeLeft, goesOn } from "./drain-left.ts";
import { type DrainOutcome, waitForDrains } from "./drain-wait.ts";

export interface DrainOptions {
  readonly deadline?: number;
  readonly wait: boolean;
  readonly timeout?: number;
  readonly output: OutputFormat;
}

/** Begins the drains, waits for them and prints what became of them. @throws {CliError} when not all are drained */
export async function runDrain(
  context: CliContext,
  args: readonly string[],
  options: DrainOptions,
  command: Command,
): Promise<void> {
  const { output, wait } = options;
  const ids = idsOf(args, SERVER_WORDS);
  const endpoint = endpointOf(context, command);
  using client = await context.connect(command);
  const begun: Server[] = [];
  let refused: CliError | undefined;
  const say = async (text: string) => {
    if (output === "table") await context.print(text);
  };
  try {
    const servers = forEachId(context, ids, endpoint, async (serverId) => {
      const request = { serverId, deadline: durationFromMs(options.deadline ?? 0) };
      const { server } = await client.servers.drainServer(request, { signal: context.signal });
      if (!server) throw new Error("the control plane answered without the server");
      return server;
    });
    for await (const server of servers) {
      begun.push(server);
      if (!wait) await say(beginLine(server));
    }
  } catch (err) {
    if (context.signal.aborted)
      context.stderr.write(`drains may have begun: \`convoke get servers ${ids.join(" ")}\` tells\n`);
    // What has begun is waited for; what has not is told at the end.
    if (!(err instanceof CliError) || begun.length === 0) throw err;
    refused = err;
  }
  const outcomes = wait
    ? await waitForDrains(context, client, begun, {
        endpoint,
        say,
        showProgress: output === "table",
        timeoutMs: options.timeout,
      })
    : begun.map((server): DrainOutcome => ({ kind: "drained", server }));
  if (output !== "table") await printServers(context, output, ids, outcomes);
  const details = [...(refused?.details ?? [])];
  const unfinished: string[] = [];
  for (const { kind, server } of outcomes) {
    const { serverId } = server;
    if (kind === "cancelled") details.push(`${serverId}: its drain was cancelled; somebody uncordoned it`);
    if (kind !== "left") continue;
    unfinished.push(serverId);
    details.push(...(await describeLeft(client, server, context)));
  }
  const drained = outcomes.filter(({ kind }) => kind === "drained" || kind === "removed").length;
  if (drained === ids.length) return;
  throw new CliError(
    `${drained} of ${ids.length} ${ids.length === 1 ? "server" : "servers"} ${wait ? "drained" : "done"}${
      unfinished.length > 0 && options.timeout !== undefined
        ? ` within ${formatDuration(options.timeout)}`
        : ""
    }`,
    {
      details,
      exitCode: drained > 0 ? ExitCode.partial : (refused?.exitCode ?? ExitCode.failed),
      ...(unfinished.length > 0 ? { hint: goesOn(unfinished) } : {}),
    },
  );
}

function beginLine({ serverId, conferenceCount, drain }: Server): string {
  if (drain?.done) return `server/${serverId} drained`;
  return `server/${serverId} draining, ${conferenceCount} conferences`;
}

async function printServers(
  context: CliContext,
  format: OutputFormat,
  ids: readonly string[],
  outcomes: readonly DrainOutcome[],
) {
  const servers = async function* () {
    for (const { kind, server } of outcomes) if (kind !== "removed") yield server;
  };
  await printNamed(context, format, serverResource, ids, servers());
}
