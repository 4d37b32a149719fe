import type { Command } from "commander";
import type { ConvokeClient } from "../../transport/client.ts";
import type { WatchOptions, WatchUpdate } from "../../watch.ts";
import { type CliContext, endpointOf } from "../context.ts";
import { reportOf } from "../errors.ts";
import type { EventFormatter } from "../event-lines.ts";
import type { OutputFormat } from "../options.ts";

export interface WatchCommandOptions {
  readonly output: OutputFormat;
  readonly fromRevision?: number;
  readonly existing: boolean;
}

/** What is watched. */
export interface Watched<E> {
  /** What is told again after changes were missed, e.g. `all valid rows`. */
  readonly all: string;
  readonly open: (client: ConvokeClient, options: WatchOptions) => AsyncIterable<WatchUpdate<E>>;
  readonly format: EventFormatter<E>;
  readonly isWanted: (event: E) => boolean;
  /** @param revision of the update that the event came in; 0 while all there is is told */
  readonly isExisting: (event: E, revision: bigint) => boolean;
}

/** Prints what a watch tells until the context's signal aborts. */
export async function runWatch<E>(
  context: CliContext,
  command: Command,
  options: WatchCommandOptions,
  { all, open, format, isWanted, isExisting }: Watched<E>,
): Promise<void> {
  using client = await context.connect(command);
  const updates = open(client, {
    signal: context.signal,
    clock: context.clock,
    revision: BigInt(options.fromRevision ?? 0),
    onInterrupted: (error, retryInMs) => {
      const cause = error ? reportOf(error, endpointOf(context, command)).message : "the stream ended";
      context.warn(`${cause}; resuming in ${(retryInMs / 1000).toFixed(1)} s`);
    },
  });
  if (format.header) await context.print(format.header);
  let resumeRevision = BigInt(options.fromRevision ?? 0);
  for await (const update of updates) {
    if (update.kind === "restart") {
      resumeRevision = 0n;
      context.warn(`changes were missed (${update.cause.rawMessage}): ${all} follow again`);
      continue;
    }
    for (const [index, event] of update.events.entries()) {
      // Changes of one revision come together: only behind the last of them is it safe to resume.
      if (index === update.events.length - 1) resumeRevision = update.revision;
      if (!isWanted(event)) continue;
      // Also what is left out is told to the formatter, which compares with what it was told before.
      const line = format.line(event, resumeRevision);
      if (options.existing || !isExisting(event, update.revision)) await context.print(line);
    }
    resumeRevision = update.revision;
  }
}
