/**
 * What the agent needs of a conference server. One driver stands for one life of its conference server: when the server
 * restarts and forgets what it hosted, `ended` aborts, and the agent goes on with a new driver.
 *
 * The agent never calls `start` and `stop` for one conference at the same time; calls for different ones overlap. Each
 * call settles soon after its signal aborts.
 */
export interface Driver {
  /** The kind of conference server, such as `loopback`. */
  readonly name: string;
  /**
   * Names this life of the conference server. The same after a restart of the agent alone, new after one of the server and
   * after `renew`.
   */
  readonly instanceId: string;
  /** Aborts, with the reason, when the conference server's life is over and all its rooms are gone. */
  readonly ended: AbortSignal;
  /** Participants connected to all rooms, as last known: answers at once, so it may lag behind a remote server. */
  readonly participantCount: number;
  /**
   * Hosts a conference. One that is hosted already keeps its room, its participants and its address, and goes on under
   * the epoch given. After a rejected start of one that was not hosted the caller calls `stop`, since the room may exist
   * all the same.
   */
  start(request: RoomRequest, signal: AbortSignal): Promise<Room>;
  /** Ends a conference's room and disconnects its participants. One that is not hosted is a success. */
  stop(conferenceId: string, signal: AbortSignal): Promise<void>;
  /**
   * Ends all rooms at once, disconnects their participants, and begins another life with another `instanceId`, so that
   * everything that was dispatched here is placed anew.
   */
  renew(signal: AbortSignal): Promise<void>;
  /**
   * What the conference server hosts from before this agent was started. Only drivers whose rooms outlive the agent have
   * this and the next two.
   */
  hosted?(signal: AbortSignal): Promise<Adoption>;
  /** Notes until when a hosted conference may run now, for the next agent. */
  extend?(conferenceId: string, validUntilMs: number): void;
  /** Tells a conference server that fences by itself how long its agent may be away from now on. */
  leave?(awayMs: number, signal: AbortSignal): Promise<void>;
  /** Participants connected to one conference, as last known; 0 when it is not hosted. */
  participants(conferenceId: string): number;
  /** Asks the conference server whether it works. Rejects only when the signal aborts. */
  healthy(signal: AbortSignal): Promise<DriverHealth>;
  /** Lets go of the conference server. Rooms end with it only when they live in this process. */
  close(): Promise<void>;
}

export interface RoomRequest {
  readonly conferenceId: string;
  readonly dispatchEpoch: bigint;
  /** The units of capacity it may use. */
  readonly weight: number;
  /** Until when it may run, in milliseconds since 1970; not set when it has no end of its own. */
  readonly validUntilMs?: number;
}

/** What an agent finds on its conference server when it starts. */
export interface Adoption {
  readonly rooms: readonly AdoptedRoom[];
  /** For how long they may be served yet unless somebody is heard; undefined when nobody has said. */
  readonly leftMs?: number;
}

export interface AdoptedRoom extends RoomRequest, Room {
  /** When it was started, in milliseconds since 1970. */
  readonly startTimeMs: number;
}

export interface Room {
  /** Where participants join, as a URL of at most 2048 bytes. */
  readonly address: string;
}

export type DriverHealth = { readonly healthy: true } | { readonly healthy: false; readonly reason: string };
