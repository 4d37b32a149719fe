import { fromBinary } from "@bufbuild/protobuf";
import {
  ObservationRecordSchema,
  ObserverRecordSchema,
} from "../../proto/gen/convoke/store/v1/records_pb.js";
import type { Observation } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import type { ParsedKey } from "../store/keys.ts";
import type { StoreEvent } from "../store/store.ts";

export interface ObservationEntry {
  readonly observation: Observation;
  readonly modRevision: bigint;
  readonly lease: bigint;
}

export interface WithdrawalEntry {
  readonly reason: string;
  readonly modRevision: bigint;
  readonly lease: bigint;
}

/** What observers report of servers, as the store has it. Everything here lies on the lease of the observer. */
export class Observations {
  readonly #byServer = new Map<string, Map<string, ObservationEntry>>();
  readonly #withdrawals = new Map<string, WithdrawalEntry>();

  /** By dispatcher. */
  ofServer(serverId: string): ReadonlyMap<string, ObservationEntry> {
    return this.#byServer.get(serverId) ?? NONE;
  }

  /** Servers of which anything is reported. */
  servers(): Iterable<string> {
    return this.#byServer.keys();
  }

  /** Why none of a dispatcher's votes counts; undefined when they do. */
  withdrawalOf(dispatcherId: string): WithdrawalEntry | undefined {
    return this.#withdrawals.get(dispatcherId);
  }

  withdrawals(): Iterable<string> {
    return this.#withdrawals.keys();
  }

  applyObservation(
    { serverId, dispatcherId }: ParsedKey & { kind: "observation" },
    { type, kv }: StoreEvent,
  ) {
    const entries = this.#byServer.get(serverId) ?? new Map<string, ObservationEntry>();
    const { observation } =
      type === "put" ? fromBinary(ObservationRecordSchema, kv.value) : { observation: undefined };
    if (observation) {
      observation.dispatcherId = dispatcherId;
      entries.set(dispatcherId, { observation, modRevision: kv.modRevision, lease: kv.lease });
    } else {
      entries.delete(dispatcherId);
    }
    if (entries.size > 0) this.#byServer.set(serverId, entries);
    else this.#byServer.delete(serverId);
  }

  applyWithdrawal(dispatcherId: string, { type, kv }: StoreEvent) {
    if (type === "delete") {
      this.#withdrawals.delete(dispatcherId);
      return;
    }
    const { withdrawReason } = fromBinary(ObserverRecordSchema, kv.value);
    const { modRevision, lease } = kv;
    this.#withdrawals.set(dispatcherId, { reason: withdrawReason, modRevision, lease });
  }
}

const NONE: ReadonlyMap<string, ObservationEntry> = new Map();
