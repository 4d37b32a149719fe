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
  /** Names this life of the conference server. The same after a restart of the agent alone, new after one of the server. */
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
}

export interface Room {
  /** Where participants join, as a URL of at most 2048 bytes. */
  readonly address: string;
}

export type DriverHealth = { readonly healthy: true } | { readonly healthy: false; readonly reason: string };
