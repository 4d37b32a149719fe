import { Code, ConnectError } from "@connectrpc/connect";
import { sleep } from "../../../common/clock.ts";
import { timestampMs } from "../../../common/time.ts";
import type { Server } from "../../../proto/gen/convoke/v1/server_pb.js";
import type { ConvokeClient } from "../../transport/client.ts";
import { isoSeconds } from "../cells.ts";
import type { CliContext } from "../context.ts";
import { isUnavailable, reportOf } from "../errors.ts";
import { drainProgress } from "../health-words.ts";
import { createProgressLine } from "../progress-line.ts";
import { describeLeft, goesOn } from "./drain-left.ts";

/** What became of a drain that was waited for; `left` when the waiting ended first. */
export interface DrainOutcome {
  readonly kind: "drained" | "removed" | "cancelled" | "left";
  /** As it was read last. */
  readonly server: Server;
}

export interface DrainWait {
  /** Where the calls go, for warnings. */
  readonly endpoint: string;
  /** Prints a line about a server whose drain has ended. */
  readonly say: (text: string) => Promise<void>;
  /** Whether to show how far it is; what is printed for programs comes alone. */
  readonly showProgress: boolean;
  /** How long to wait at most; no end without. */
  readonly timeoutMs: number | undefined;
}

/** Reads cost little, and a counter that moves twice a second looks alive. */
const POLL_MS = 500;
/** A server that loses nothing for so long past its deadline has conferences that fit nowhere, and people want to know which. */
const STUCK_MS = 10_000;

/** A server whose drain is waited for. */
interface Waiting {
  server: Server;
  /** When a conference left it last, or what keeps the others was told. */
  movedMs: number;
}

/**
 * Waits until each drain is done or cancelled, showing how far they are on stderr. An unreachable control plane is waited
 * for as well.
 * @returns the outcomes in the order of the servers
 */
export async function waitForDrains(
  context: CliContext,
  client: ConvokeClient,
  servers: readonly Server[],
  { endpoint, say, showProgress, timeoutMs = Number.POSITIVE_INFINITY }: DrainWait,
): Promise<DrainOutcome[]> {
  const { clock, signal, stderr } = context;
  const endMs = clock.monotonicMs() + timeoutMs;
  const waiting = new Map<string, Waiting>();
  const outcomes = new Map<string, DrainOutcome>();
  for (const server of servers) waiting.set(server.serverId, { server, movedMs: clock.monotonicMs() });
  using progress = createProgressLine({ stream: stderr, clock, isTerminal: context.isTty.stderr });
  let toldUnreachable = false;

  async function settle(outcome: DrainOutcome) {
    const { kind, server } = outcome;
    waiting.delete(server.serverId);
    outcomes.set(server.serverId, outcome);
    progress.clear();
    if (kind === "drained") await say(`server/${server.serverId} drained`);
    if (kind === "removed") await say(`server/${server.serverId} drained, and removed since`);
  }

  async function read(entry: Waiting): Promise<void> {
    const { serverId, conferenceCount } = entry.server;
    try {
      const { server } = await client.servers.getServer({ serverId }, { signal });
      toldUnreachable = false;
      if (!server) return;
      if (server.conferenceCount < conferenceCount) entry.movedMs = clock.monotonicMs();
      entry.server = server;
    } catch (err) {
      signal.throwIfAborted();
      if (err instanceof ConnectError && err.code === Code.NotFound)
        return settle({ kind: "removed", server: entry.server });
      if (!isUnavailable(err)) throw err;
      progress.clear();
      if (!toldUnreachable) context.warn(`${reportOf(err, endpoint).message}; waiting for it`);
      toldUnreachable = true;
    }
  }

  try {
    for (;;) {
      for (const { server } of [...waiting.values()]) {
        if (server.drain?.done) await settle({ kind: "drained", server });
        else if (!server.drain) await settle({ kind: "cancelled", server });
      }
      if (waiting.size === 0) break;
      for (const entry of waiting.values()) {
        const { server } = entry;
        const deadlineMs = server.drain?.deadline ? timestampMs(server.drain.deadline) : 0;
        const stuck = clock.wallMs() >= deadlineMs && clock.monotonicMs() - entry.movedMs >= STUCK_MS;
        if (!stuck || toldUnreachable) continue;
        entry.movedMs = Number.POSITIVE_INFINITY;
        const lines = await describeLeft(client, server, context);
        progress.clear();
        for (const line of lines) stderr.write(`${line}\n`);
      }
      if (showProgress) show();
      const leftMs = endMs - clock.monotonicMs();
      if (leftMs <= 0) break;
      await sleep(clock, Math.min(POLL_MS, leftMs), signal);
      // One after the other: a few dozen servers are read within a poll, and more need no finer figures.
      for (const entry of [...waiting.values()]) await read(entry);
    }
  } catch (err) {
    progress.clear();
    if (signal.aborted) stderr.write(`${goesOn([...waiting.keys()])}\n`);
    throw err;
  }
  return servers.map(
    ({ serverId, ...rest }) =>
      outcomes.get(serverId) ?? {
        kind: "left",
        server: waiting.get(serverId)?.server ?? { serverId, ...rest },
      },
  );

  function show() {
    let gone = 0;
    let of = 0;
    let deadlineMs = 0;
    for (const { server } of [...waiting.values(), ...outcomes.values()]) {
      const progressOf = drainProgress(server);
      gone += progressOf.gone;
      of += progressOf.of;
      if (waiting.has(server.serverId) && server.drain?.deadline)
        deadlineMs = Math.max(deadlineMs, timestampMs(server.drain.deadline));
    }
    const parts = [`${of - gone} conferences left`];
    if (servers.length > 1) parts.push(`${outcomes.size} of ${servers.length} servers done`);
    if (deadlineMs > clock.wallMs()) parts.push(`the rest moves at ${isoSeconds(deadlineMs)}`);
    progress.show(gone, of, parts.join(", "));
  }
}
