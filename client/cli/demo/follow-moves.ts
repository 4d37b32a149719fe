import { type Clock, sleep } from "../../../common/clock.ts";
import type { Dispatch } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import { Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import { type ConvokeClient, createConvokeClient } from "../../transport/client.ts";
import { watchServers } from "../../watch.ts";
import type { Moves } from "./moves.ts";
import type { Stage } from "./stage.ts";

/** What was seen of the moves from a blow on; times are on the monotonic clock. */
export interface MovesSeen {
  /** When the server was struck. */
  readonly struckAtMs: number;
  /** When a client was told that it is DOWN. */
  readonly downAtMs: number | undefined;
  /** How many new rows another client has read with GetDispatch. */
  readonly readsChecked: number;
}

/** What is not elsewhere by then counts as not moved. */
const MOVE_TIMEOUT_MS = 20_000;
const CHECK_TIMEOUT_MS = 5_000;
/** One of so many rows is read by another client as well: enough to show, too few to slow down what is measured. */
const CHECK_ONE_OF = 20;
const READ_AGAIN_MS = 5;

/** Strikes, and resolves once all conferences of the server are elsewhere or the time for it is over. */
export async function followMoves(
  stage: Stage,
  moves: Moves,
  strike: () => Promise<void>,
  signal: AbortSignal,
): Promise<MovesSeen> {
  const { clock, planes, listeners } = stage;
  const over = new AbortController();
  const working = AbortSignal.any([signal, over.signal]);
  // It has not seen what the watch tells, so it is no better off than any other client.
  using reader = createConvokeClient({ endpoint: planes.endpoints });
  let downAtMs: number | undefined;
  const watching = watchUntilDown(reader, moves.serverId, working).then((down) => {
    if (down) downAtMs = clock.monotonicMs();
  });
  const checks = new Set<Promise<void>>();
  let told = 0;
  let readsChecked = 0;
  const listener: Parameters<typeof listeners.add>[0] = (update, nowMs) => {
    for (const row of moves.apply(update, nowMs)) {
      if (told++ % CHECK_ONE_OF !== 0) continue;
      const check = readUntil(reader, row, clock, working).then((read) => {
        checks.delete(check);
        if (!read) return;
        readsChecked += 1;
        moves.readable(row.conferenceId, clock.monotonicMs());
      });
      checks.add(check);
    }
  };
  listeners.add(listener);
  try {
    const struckAtMs = clock.monotonicMs();
    await strike();
    await stage.within(MOVE_TIMEOUT_MS, signal, () => moves.readableAtMs.length >= moves.expected);
    await stage.within(CHECK_TIMEOUT_MS, signal, () => checks.size === 0);
    return { struckAtMs, downAtMs, readsChecked };
  } finally {
    over.abort();
    listeners.delete(listener);
    await Promise.all([watching, ...checks]);
  }
}

/** Resolves with true once the server is told to be DOWN, with false when the signal aborts first. */
async function watchUntilDown({ servers }: ConvokeClient, id: string, signal: AbortSignal): Promise<boolean> {
  try {
    for await (const update of watchServers(servers, { signal })) {
      if (update.kind === "restart") continue;
      const isDown = update.events.some(
        ({ server }) => server?.serverId === id && server.state === Server_State.DOWN,
      );
      if (isDown) return true;
    }
  } catch (err) {
    if (!signal.aborted) throw err;
  }
  return false;
}

/** Reads until the answer is this row or a later one; false when the signal aborts first. */
async function readUntil(
  { conferences }: ConvokeClient,
  { conferenceId, epoch }: Dispatch,
  clock: Clock,
  signal: AbortSignal,
): Promise<boolean> {
  while (!signal.aborted) {
    try {
      const { dispatch } = await conferences.getDispatch({ conferenceId }, { signal });
      if (dispatch && dispatch.epoch >= epoch) return true;
    } catch {
      // It has no row yet as far as this replica knows, or the replica is gone: read again until the time is over.
    }
    await sleep(clock, READ_AGAIN_MS, signal).catch(() => {});
  }
  return false;
}
