import { WebSocket } from "ws";
import { createBackoff } from "../../../common/backoff.ts";
import type { Clock, Timer } from "../../../common/clock.ts";
import type { Dispatch } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import type { Follower } from "../../whereabouts.ts";

/** One who talks all the time, and goes with the conference wherever it is placed. */
export interface Participant extends Follower, Disposable {
  /** The dispatch epoch of the room in which it has heard somebody last; 0 when nobody yet. */
  readonly heardInEpoch: bigint;
  /** The longest time without a word from others, from the first word to now, in milliseconds. */
  readonly longestSilenceMs: number;
  /** Places it was told of, the first included. */
  readonly places: readonly Dispatch[];
  /** How many rooms it has left for another and stayed connected to. */
  readonly oldRooms: number;
  /** Of those it has left: when the conference server disconnected it, on the monotonic clock. */
  readonly cutFromOldRoomsAtMs: readonly number[];
}

export interface ParticipantOptions {
  readonly clock: Clock;
  /** Whether it stays connected to a room that it has left, to see whether it is cut. Default: it disconnects. */
  readonly lingers?: boolean;
}

/** Often enough to tell a silence to this precision, little enough for many participants in one process. */
const SAY_EVERY_MS = 50;
const HANDSHAKE_TIMEOUT_MS = 2_000;

/** Participants of a demo want to be back soon, and there are few. */
const REJOIN_BACKOFF = { initialMs: 50, maxMs: 500 };

export function createParticipant({ clock, lingers = false }: ParticipantOptions): Participant {
  const places: Dispatch[] = [];
  const cuts: number[] = [];
  const old = new Set<WebSocket>();
  const backoff = createBackoff(REJOIN_BACKOFF);
  let current: WebSocket | undefined;
  let joining: WebSocket | undefined;
  let rejoin: Timer | undefined;
  let oldRooms = 0;
  let heardInEpoch = 0n;
  let heardAtMs: number | undefined;
  let longestMs = 0;
  let said = 0;
  let closed = false;

  function heard(epoch: bigint) {
    const nowMs = clock.monotonicMs();
    if (heardAtMs !== undefined) longestMs = Math.max(longestMs, nowMs - heardAtMs);
    heardAtMs = nowMs;
    heardInEpoch = epoch;
  }

  function join(place: Dispatch) {
    rejoin?.clear();
    joining?.terminate();
    const socket = new WebSocket(place.address, { handshakeTimeout: HANDSHAKE_TIMEOUT_MS });
    joining = socket;
    socket.on("error", () => {});
    socket.on("open", () => {
      if (socket !== joining) return;
      joining = undefined;
      if (current) leave(current);
      current = socket;
      backoff.reset();
    });
    socket.on("message", () => {
      if (socket === current) heard(place.epoch);
    });
    socket.on("close", () => {
      if (closed) return;
      if (old.delete(socket)) cuts.push(clock.monotonicMs());
      if (socket === current) current = undefined;
      else if (socket === joining) joining = undefined;
      else return;
      // The room may be there again soon, or the conference is placed elsewhere, which will be told.
      if (joining) return;
      rejoin?.clear();
      rejoin = clock.setTimer(rejoinLast, backoff.nextMs());
    });
  }

  function rejoinLast() {
    const place = places.at(-1);
    if (place && !closed) join(place);
  }

  function leave(socket: WebSocket) {
    if (!lingers) return socket.close();
    oldRooms += 1;
    old.add(socket);
  }

  const talk = setInterval(() => {
    if (current?.readyState === WebSocket.OPEN) current.send(`word ${++said}`);
  }, SAY_EVERY_MS);

  return {
    places,
    cutFromOldRoomsAtMs: cuts,
    get oldRooms() {
      return oldRooms;
    },
    get heardInEpoch() {
      return heardInEpoch;
    },
    get longestSilenceMs() {
      return heardAtMs === undefined ? 0 : Math.max(longestMs, clock.monotonicMs() - heardAtMs);
    },
    placed(dispatch) {
      if (closed) return;
      places.push(dispatch);
      join(dispatch);
    },
    [Symbol.dispose]() {
      closed = true;
      clearInterval(talk);
      rejoin?.clear();
      for (const socket of [current, joining, ...old]) socket?.terminate();
    },
  };
}
