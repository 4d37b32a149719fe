import type { Clock } from "../../../common/clock.ts";
import type { Dispatch } from "../../../proto/gen/convoke/v1/dispatch_pb.js";
import type { Whereabouts } from "../../whereabouts.ts";
import { createParticipant } from "./participant.ts";

/** Participants in rooms of one server, who go where their conferences go. */
export interface Rooms extends Disposable {
  /** How many rooms. */
  readonly count: number;
  readonly participants: number;
  /** Whether everybody has heard somebody. */
  readonly lively: boolean;
  /** How many were told of a move away from the server, joined the new room and heard somebody there. */
  readonly followed: number;
  /** The longest that one of them heard nothing. */
  readonly longestSilenceMs: number;
  /** How many connections to rooms that were left are or were kept. */
  readonly oldConnections: number;
  /** When the server cut such connections, on the monotonic clock. */
  readonly cutAtMs: readonly number[];
}

export interface RoomsOptions {
  /** Rows of conferences on one server. */
  readonly rows: readonly Dispatch[];
  readonly participantsEach: number;
  readonly whereabouts: Whereabouts;
  /** Whether they keep the connection to a room that they leave. */
  readonly linger: boolean;
  readonly clock: Clock;
}

export function fillRooms({ rows, participantsEach, whereabouts, linger, clock }: RoomsOptions): Rooms {
  const stack = new DisposableStack();
  const everybody = rows.flatMap((row) =>
    Array.from({ length: participantsEach }, () => {
      const participant = stack.use(createParticipant({ clock, lingers: linger }));
      stack.use(whereabouts.follow(row.conferenceId, participant));
      const hasFollowed = () => {
        const now = participant.places.at(-1);
        return now?.previousServerId === row.serverId && participant.heardInEpoch === now.epoch;
      };
      return { participant, hasFollowed };
    }),
  );
  return {
    count: rows.length,
    participants: everybody.length,
    get lively() {
      return everybody.every(({ participant }) => participant.heardInEpoch > 0n);
    },
    get followed() {
      return everybody.filter(({ hasFollowed }) => hasFollowed()).length;
    },
    get longestSilenceMs() {
      return Math.max(0, ...everybody.map(({ participant }) => participant.longestSilenceMs));
    },
    get oldConnections() {
      return everybody.reduce((sum, { participant }) => sum + participant.oldRooms, 0);
    },
    get cutAtMs() {
      return everybody.flatMap(({ participant }) => participant.cutFromOldRoomsAtMs);
    },
    [Symbol.dispose]: () => stack.dispose(),
  };
}
