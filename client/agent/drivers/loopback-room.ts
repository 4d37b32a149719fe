import { randomBytes, timingSafeEqual } from "node:crypto";
import { type RawData, WebSocket } from "ws";
import type { Clock } from "../../../common/clock.ts";

/** Why a participant is disconnected by us; the codes from 4000 on are for applications (RFC 6455, section 7.4.2). */
export const CloseCode = {
  /** The whole server goes away. */
  goingAway: 1001,
  /** It takes in too little of what the others send; it may join again (registered as "Try Again Later"). */
  tooSlow: 1013,
  /** Its conference is not hosted here any more: look the new address up, or leave it at that. */
  conferenceGone: 4001,
} as const;

/** What one participant sends goes to all the others, so a room's traffic grows with the square of this. */
export const MAX_PARTICIPANTS = 1_000;

/** How long a participant has to answer our closing before its connection is cut, with whatever it has not taken in. */
export const CLOSE_TIMEOUT_MS = 2_000;

/** A room of the loopback driver: relays what one participant sends to all the others, as it is. */
export interface LoopbackRoom {
  /** Lets participants in; cannot be guessed, and differs from that of an earlier room of the same conference. */
  readonly token: string;
  readonly participantCount: number;
  readonly full: boolean;
  /** Whether a token that somebody brought is the room's, compared in constant time. */
  admits(token: string): boolean;
  join(socket: WebSocket): void;
  /** Pings everyone, and drops those that have not answered the ping before. */
  checkPeers(): void;
  close(code: number, reason: string): void;
}

export interface LoopbackRoomOptions {
  /** A participant with more than this many unsent bytes is disconnected. */
  readonly maxBufferedBytes: number;
  readonly clock: Clock;
  /** Asked before each message is relayed; what is sent while it says no is lost. Default: always yes. */
  readonly mayServe?: () => boolean;
}

export function createLoopbackRoom(options: LoopbackRoomOptions): LoopbackRoom {
  const { maxBufferedBytes, clock, mayServe = () => true } = options;
  const token = randomBytes(24).toString("base64url");
  const participants = new Map<WebSocket, { answered: boolean }>();

  function relay(from: WebSocket, data: RawData, binary: boolean) {
    for (const peer of participants.keys()) {
      if (peer === from || peer.readyState !== WebSocket.OPEN) continue;
      peer.send(data, { binary });
      if (peer.bufferedAmount > maxBufferedBytes) {
        dismiss(peer, CloseCode.tooSlow, "too slow for this conference");
      }
    }
  }

  function dismiss(socket: WebSocket, code: number, reason: string) {
    participants.delete(socket);
    const cutOff = clock.setTimer(() => socket.terminate(), CLOSE_TIMEOUT_MS);
    socket.once("close", () => cutOff.clear());
    socket.close(code, reason);
  }

  return {
    token,
    get participantCount() {
      return participants.size;
    },
    get full() {
      return participants.size >= MAX_PARTICIPANTS;
    },
    admits(given) {
      const mine = Buffer.from(token);
      const theirs = Buffer.from(given);
      return mine.length === theirs.length && timingSafeEqual(mine, theirs);
    },
    join(socket) {
      const state = { answered: true };
      participants.set(socket, state);
      socket.on("message", (data, binary) => {
        if (participants.has(socket) && mayServe()) relay(socket, data, binary);
      });
      socket.on("pong", () => {
        state.answered = true;
      });
      socket.on("close", () => participants.delete(socket));
    },
    checkPeers() {
      for (const [socket, state] of participants) {
        if (!state.answered) {
          socket.terminate();
          continue;
        }
        state.answered = false;
        socket.ping();
      }
    },
    close(code, reason) {
      for (const socket of participants.keys()) dismiss(socket, code, reason);
    },
  };
}
