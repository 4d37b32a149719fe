import { fromBinary } from "@bufbuild/protobuf";
import { timestampMs } from "../../common/time.ts";
import {
  BrakeRecordSchema,
  ConferenceRecordSchema,
  ObservationRecordSchema,
  RoundRecordSchema,
  ServerRecordSchema,
} from "../../proto/gen/convoke/store/v1/records_pb.js";
import { type Conference, Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import type { Observation } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { type Server, Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import type { KeyValue, StoreEvent } from "../../server/store/store.ts";

/** A registration, by the key that holds it. */
export interface PicturedDispatcher {
  readonly epoch: bigint;
  readonly lease: bigint;
}

/** A conference as its record has it, with the dispatch epoch of its claim filled in. */
export interface PicturedConference {
  readonly id: string;
  readonly conference: Conference;
  readonly claim:
    | {
        readonly dispatcherId: string;
        readonly epoch: bigint;
        readonly dispatchEpoch: bigint;
        readonly round: bigint;
      }
    | undefined;
  /** When it was last written, since the world began. */
  readonly changedMs: number;
  readonly startMs: number;
  readonly endMs: number;
}

/** What the store holds, decoded by code that shares nothing with the view's. */
export interface Picture {
  readonly dispatchers: ReadonlyMap<string, PicturedDispatcher>;
  readonly servers: ReadonlyMap<string, Server>;
  readonly conferences: ReadonlyMap<string, PicturedConference>;
  readonly observations: ReadonlyMap<string, Observation>;
  readonly releasedUntilMs: number;
}

/** What one event changes; undefined for keys that matter to nobody. */
export type PictureChange =
  | { readonly kind: "dispatcher"; readonly id: string; readonly next: PicturedDispatcher | undefined }
  | { readonly kind: "server"; readonly id: string; readonly next: Server | undefined }
  | { readonly kind: "conference"; readonly id: string; readonly next: PicturedConference | undefined }
  | {
      readonly kind: "observation";
      readonly id: string;
      readonly dispatcherId: string;
      readonly lease: bigint;
      readonly next: Observation | undefined;
    }
  | { readonly kind: "brake"; readonly releasedUntilMs: number }
  | { readonly kind: "round"; readonly revision: bigint; readonly members: readonly string[] };

const PREFIX = "convoke/";

/** @param nowMs since the world began */
export function readChange({ type, kv }: StoreEvent, nowMs: number): PictureChange | undefined {
  const [folder = "", id = "", more = ""] = kv.key.slice(PREFIX.length).split("/");
  const gone = type === "delete";
  switch (folder) {
    case "dispatchers":
      return { kind: "dispatcher", id, next: gone ? undefined : { epoch: kv.modRevision, lease: kv.lease } };
    case "servers":
      return { kind: "server", id, next: gone ? undefined : fromBinary(ServerRecordSchema, kv.value).server };
    case "conferences":
      return {
        kind: "conference",
        id,
        next: gone ? undefined : readConference(id, kv, nowMs),
      };
    case "observations": {
      const next = gone ? undefined : fromBinary(ObservationRecordSchema, kv.value).observation;
      return { kind: "observation", id: `${id}/${more}`, dispatcherId: more, lease: kv.lease, next };
    }
    case "brake":
      return {
        kind: "brake",
        releasedUntilMs: gone ? 0 : Number(fromBinary(BrakeRecordSchema, kv.value).releasedUntilMs),
      };
    case "round": {
      const members = gone ? [] : fromBinary(RoundRecordSchema, kv.value).members;
      return {
        kind: "round",
        revision: kv.modRevision,
        members: members.map(({ dispatcherId }) => dispatcherId),
      };
    }
    default:
      return undefined;
  }
}

/** The whole picture of what a store held. */
export function readPicture(kvs: readonly KeyValue[]): Picture {
  const picture = createPicture();
  for (const kv of kvs) {
    const change = readChange({ type: "put", kv }, 0);
    if (change) applyChange(picture, change);
  }
  return picture;
}

/** A picture that can be changed. */
export type MutablePicture = ReturnType<typeof createPicture>;

export function createPicture() {
  return {
    dispatchers: new Map<string, PicturedDispatcher>(),
    servers: new Map<string, Server>(),
    conferences: new Map<string, PicturedConference>(),
    observations: new Map<string, Observation>(),
    releasedUntilMs: 0,
  };
}

export function applyChange(picture: MutablePicture, change: PictureChange): void {
  switch (change.kind) {
    case "dispatcher":
      put(picture.dispatchers, change.id, change.next);
      return;
    case "server":
      put(picture.servers, change.id, change.next);
      return;
    case "conference":
      put(picture.conferences, change.id, change.next);
      return;
    case "observation":
      put(picture.observations, change.id, change.next);
      return;
    case "brake":
      picture.releasedUntilMs = change.releasedUntilMs;
      return;
    case "round":
      return;
  }
}

function put<T>(map: Map<string, T>, key: string, value: T | undefined): void {
  if (value === undefined) map.delete(key);
  else map.set(key, value);
}

function readConference(
  id: string,
  { value, modRevision }: KeyValue,
  changedMs: number,
): PicturedConference | undefined {
  const { conference } = fromBinary(ConferenceRecordSchema, value);
  if (!conference) return undefined;
  const { claim, startTime, endTime } = conference;
  return {
    id,
    conference,
    changedMs,
    claim: claim && {
      dispatcherId: claim.dispatcherId,
      epoch: claim.dispatcherEpoch,
      dispatchEpoch: claim.dispatchEpoch || modRevision,
      round: claim.round,
    },
    startMs: startTime ? timestampMs(startTime) : 0,
    endMs: endTime ? timestampMs(endTime) : 0,
  };
}

/** Whether the claim lives: to place it, or to move it away from where it is. */
export function hasValidClaim({ dispatchers }: Picture, { conference, claim }: PicturedConference): boolean {
  const { state, dispatch } = conference;
  if (!claim || dispatchers.get(claim.dispatcherId)?.epoch !== claim.epoch) return false;
  if (state === Conference_State.CLAIMED) return true;
  return state === Conference_State.ACTIVE && claim.dispatchEpoch > (dispatch?.epoch ?? 0n);
}

/** Whether the dispatch lives, its validity time aside. */
export function hasValidDispatch({ servers }: Picture, { conference }: PicturedConference): boolean {
  const { state, dispatch } = conference;
  const server = servers.get(dispatch?.serverId ?? "");
  return (
    state === Conference_State.ACTIVE &&
    server !== undefined &&
    server.incarnation === dispatch?.incarnation &&
    server.state !== Server_State.DOWN
  );
}

/** The units of the valid dispatches on a server. */
export function reservedUnits(picture: Picture, serverId: string): number {
  let units = 0;
  for (const entry of picture.conferences.values()) {
    const { dispatch, weight } = entry.conference;
    if (dispatch?.serverId === serverId && hasValidDispatch(picture, entry)) units += weight;
  }
  return units;
}

export function isOver({ conference: { state } }: PicturedConference): boolean {
  return (
    state === Conference_State.ENDED ||
    state === Conference_State.CANCELLED ||
    state === Conference_State.FAILED
  );
}
