import type { AdoptedRoom } from "../drivers/driver.ts";
import { ISOLATION_POLICIES, type IsolationPolicy } from "../isolation.ts";

/**
 * What an agent and a room server on the same machine say to each other: JSON over HTTP, one POST for each call, an object
 * there and an object back. Each call names the agent, and all but the first the room server's life; a room server obeys
 * the agent that took it over last, in the life that it is in; about another life it answers with 409, and others with
 * 410. What is wrong with a call is in `error` of the answer, which then has a status of 400 or more.
 */
export const CONTROL_PATHS = {
  /** Makes this agent the one to obey: `Caller` → `TakenOver`. */
  takeOver: "/v1/take-over",
  /** `Heartbeat` → `Beat`. */
  heartbeat: "/v1/heartbeat",
  /** `Start` → `Started`. */
  start: "/v1/start",
  /** `Stop` → nothing. */
  stop: "/v1/stop",
  /** Ends all rooms and begins another life: `Call` → `Renewed`. */
  renew: "/v1/renew",
  /** The agent goes, to be back within the time of its fence: `Call` → nothing. */
  leave: "/v1/leave",
} as const;

/** Whoever calls. */
export interface Caller {
  /** Names the process of the agent. */
  readonly agentId: string;
}

/** How long rooms may go on without an agent. */
export interface Fence {
  readonly policy: IsolationPolicy;
  /** From when it arrives, in milliseconds. */
  readonly leftMs: number;
}

export interface Call extends Caller {
  readonly instanceId: string;
  readonly fence: Fence;
}

export interface Heartbeat extends Call {
  /** Until when hosted conferences may run now, in milliseconds since 1970. */
  readonly extensions: Readonly<Record<string, number>>;
}

export interface Start extends Call {
  readonly room: RoomText;
}

export interface Stop extends Call {
  readonly conferenceId: string;
}

/** A room, with its epoch as text: JSON has no integers of 64 bits. */
export interface RoomText {
  readonly conferenceId: string;
  readonly dispatchEpoch: string;
  readonly weight: number;
  readonly validUntilMs?: number;
}

export interface HostedRoomText extends RoomText {
  readonly address: string;
  readonly startTimeMs: number;
}

export interface TakenOver {
  readonly instanceId: string;
  readonly rooms: readonly HostedRoomText[];
  /** What is left of the fence; not set when there is none. */
  readonly leftMs?: number;
}

export interface Beat {
  /** Set when it cannot host. */
  readonly problem?: string;
  /** Participants of the rooms that have any. */
  readonly participants: Readonly<Record<string, number>>;
}

export interface Started {
  readonly address: string;
}

export interface Renewed {
  readonly instanceId: string;
}

/** A call is not understood; the message says what is wrong with it. */
export class ControlFormatError extends Error {
  override readonly name = "ControlFormatError";
}

type Json = Readonly<Record<string, unknown>>;

export function readCaller(body: unknown): Caller {
  return { agentId: text(object(body, "the call"), "agentId") };
}

export function readCall(body: unknown): Call {
  const json = object(body, "the call");
  const fence = object(json.fence, "fence");
  const policy = ISOLATION_POLICIES.find((candidate) => candidate === fence.policy);
  if (!policy) throw new ControlFormatError(`fence.policy must be one of ${ISOLATION_POLICIES.join(", ")}`);
  return {
    ...readCaller(body),
    instanceId: text(json, "instanceId"),
    fence: { policy, leftMs: number(fence, "leftMs") },
  };
}

export function readHeartbeat(body: unknown): Heartbeat {
  const given = object(object(body, "the call").extensions, "extensions");
  const extensions = Object.fromEntries(Object.keys(given).map((id) => [id, number(given, id)]));
  return { ...readCall(body), extensions };
}

export function readStart(body: unknown): Start {
  return { ...readCall(body), room: readRoom(object(body, "the call").room) };
}

export function readStop(body: unknown): Stop {
  return { ...readCall(body), conferenceId: text(object(body, "the call"), "conferenceId") };
}

export function readTakenOver(body: unknown): TakenOver {
  const json = object(body, "the answer");
  if (!Array.isArray(json.rooms)) throw new ControlFormatError("rooms must be a list");
  return {
    instanceId: text(json, "instanceId"),
    rooms: json.rooms.map((room: unknown) => {
      const fields = object(room, "rooms");
      return {
        ...readRoom(room),
        address: text(fields, "address"),
        startTimeMs: number(fields, "startTimeMs"),
      };
    }),
    ...(json.leftMs === undefined ? {} : { leftMs: number(json, "leftMs") }),
  };
}

export function readBeat(body: unknown): Beat {
  const json = object(body, "the answer");
  const counts = object(json.participants, "participants");
  return {
    participants: Object.fromEntries(Object.keys(counts).map((id) => [id, number(counts, id)])),
    ...(json.problem === undefined ? {} : { problem: text(json, "problem") }),
  };
}

export function readStarted(body: unknown): Started {
  return { address: text(object(body, "the answer"), "address") };
}

export function readRenewed(body: unknown): Renewed {
  return { instanceId: text(object(body, "the answer"), "instanceId") };
}

export function toAdoptedRoom({ dispatchEpoch, ...room }: HostedRoomText): AdoptedRoom {
  return { ...room, dispatchEpoch: BigInt(dispatchEpoch) };
}

function readRoom(value: unknown): RoomText {
  const json = object(value, "room");
  const dispatchEpoch = text(json, "dispatchEpoch");
  if (!/^\d{1,19}$/.test(dispatchEpoch)) throw new ControlFormatError("dispatchEpoch must be a whole number");
  return {
    conferenceId: text(json, "conferenceId"),
    dispatchEpoch,
    weight: number(json, "weight"),
    ...(json.validUntilMs === undefined ? {} : { validUntilMs: number(json, "validUntilMs") }),
  };
}

function object(value: unknown, name: string): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new ControlFormatError(`${name} must be an object`);
  return value as Json;
}

function text(json: Json, name: string): string {
  const value = json[name];
  if (typeof value !== "string" || value === "") throw new ControlFormatError(`${name} must be a text`);
  return value;
}

function number(json: Json, name: string): number {
  const value = json[name];
  if (typeof value !== "number" || !(value >= 0))
    throw new ControlFormatError(`${name} must be a number from 0 on`);
  return value;
}
