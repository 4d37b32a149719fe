import { create, toBinary } from "@bufbuild/protobuf";
import { Code, type ConnectError } from "@connectrpc/connect";
import { statusError } from "../../common/rpc/status.ts";
import { durationFromMs, timestampFromMs } from "../../common/time.ts";
import { DispatcherRecordSchema } from "../../proto/gen/convoke/store/v1/records_pb.js";
import { type Dispatcher, DispatcherSchema } from "../../proto/gen/convoke/v1/dispatcher_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { StoreError } from "../store/store.ts";
import type { DispatcherEntry } from "../view/view.ts";
import {
  catchUp,
  contention,
  type OperationContext,
  requireFresh,
  storeUnavailable,
  writerOf,
} from "./context.ts";

export interface RegistrationRequest {
  readonly dispatcherId: string;
  readonly ttlMs: number;
  readonly weight: number;
  readonly labels: Readonly<Record<string, string>>;
}

/** Others that register under the same ID at the same moment are let pass this often. */
const MAX_TRIES = 5;

/**
 * Registers a dispatcher on a new lease, in place of whoever had the ID. One write replaces the old registration by the
 * new: were there a moment without either, the old process would be told that its lease had ended, and register again.
 */
export async function register(context: OperationContext, request: RegistrationRequest, signal: AbortSignal) {
  requireFresh(context);
  const { store, keys, clock, view } = context;
  const { dispatcherId, weight, labels } = request;
  const key = keys.dispatcher(dispatcherId);
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const previous = view.dispatchers.get(dispatcherId);
    const sentMs = clock.wallMs();
    const grant = await store.leaseGrant(request.ttlMs, signal);
    const writer = writerOf(context);
    const dispatcher = create(DispatcherSchema, {
      dispatcherId,
      weight,
      labels: { ...labels },
      ttl: durationFromMs(grant.ttlMs),
      registerTime: timestampFromMs(writer.nowMs),
    });
    const value = toBinary(
      DispatcherRecordSchema,
      create(DispatcherRecordSchema, { dispatcher, attemptId: writer.attemptId }),
    );
    const write = { key, modRevision: previous?.epoch ?? 0n, value, lease: grant.leaseId };
    const result = await context.write("dispatcher", [], [write], signal).catch(whenLeaseGone);
    // A replica that stood still for the whole time to live begins anew.
    if (!result) continue;
    await catchUp(context, result.revision, signal);
    if (!result.fenced && result.written.has(key)) {
      if (previous) await endLease(context, previous, signal);
      dispatcher.epoch = result.revision;
      dispatcher.expireTime = timestampFromMs(Math.round(sentMs + grant.ttlMs));
      return { dispatcher, ttlMs: grant.ttlMs };
    }
    await store.leaseRevoke(grant.leaseId, signal);
  }
  throw contention(`dispatcher ${dispatcherId}`);
}

/** The lease of a replaced registration holds nothing any more; if it cannot be ended now, it ends by itself. */
async function endLease(
  { store, logger }: OperationContext,
  { lease }: DispatcherEntry,
  signal: AbortSignal,
) {
  try {
    await store.leaseRevoke(lease, signal);
  } catch (err) {
    logger.debug({ err, lease: String(lease) }, "lease of a replaced registration left to expire");
  }
}

function whenLeaseGone(err: unknown): undefined {
  if (!(err instanceof StoreError) || err.code !== "lease_not_found") throw err;
}

/** Renews the lease of an epoch. Returns until when it is valid, by this replica's clock. */
export async function heartbeat(
  context: OperationContext,
  dispatcherId: string,
  epoch: bigint,
  signal: AbortSignal,
) {
  requireFresh(context);
  const { lease } = await requireEpoch(context, dispatcherId, epoch, signal);
  const sentMs = context.clock.wallMs();
  try {
    const { ttlMs } = await context.store.leaseKeepalive(lease, signal);
    return { expireTime: timestampFromMs(Math.round(sentMs + ttlMs)) };
  } catch (err) {
    if (!(err instanceof StoreError) || err.code !== "lease_not_found") throw err;
    throw await leaseUnknown(
      context,
      { dispatcherId, epoch, again: "send the heartbeat again", cause: err },
      signal,
    );
  }
}

/**
 * What to answer a dispatcher whose lease the store does not know. It has ended or was replaced, which the view may have
 * yet to see. Else a lease ends together with its keys, so a registration that stands has a lease: a member of etcd that
 * became leader before it had applied all it holds does not know the newest leases yet.
 * @throws {ConnectError} FAILED_PRECONDITION: EPOCH_EXPIRED or DISPATCHER_REPLACED
 */
export async function leaseUnknown(
  context: OperationContext,
  call: {
    readonly dispatcherId: string;
    readonly epoch: bigint;
    /** What the dispatcher is to do, e.g. `report again`. */
    readonly again: string;
    readonly cause: StoreError;
  },
  signal: AbortSignal,
): Promise<ConnectError> {
  const { dispatcherId, epoch, again, cause } = call;
  const { revision } = await context.store.range({ key: context.keys.dispatcher(dispatcherId) }, signal);
  await catchUp(context, revision, signal);
  await requireEpoch(context, dispatcherId, epoch, signal);
  const message = `the store does not know the registration's lease yet; ${again}`;
  return storeUnavailable(message, { cause, effect: "none" });
}

/** Ends an epoch; another epoch of the same dispatcher is left alone. */
export async function deregister(
  context: OperationContext,
  dispatcherId: string,
  epoch: bigint,
  signal: AbortSignal,
) {
  requireFresh(context);
  const { store, keys, view } = context;
  if (epoch > view.revision) await catchUpWithEpoch(context, dispatcherId, epoch, signal);
  const entry = view.dispatchers.get(dispatcherId);
  if (entry?.epoch !== epoch) return;
  await store.leaseRevoke(entry.lease, signal);
  const { revision } = await store.range({ key: keys.dispatcher(dispatcherId) }, signal);
  await catchUp(context, revision, signal);
}

/**
 * The registration of a live epoch, as far as the view knows; what is then written is fenced in the store.
 * @throws {ConnectError} FAILED_PRECONDITION: EPOCH_EXPIRED or DISPATCHER_REPLACED
 */
export async function requireEpoch(
  context: OperationContext,
  dispatcherId: string,
  epoch: bigint,
  signal: AbortSignal,
): Promise<DispatcherEntry> {
  if (epoch > context.view.revision) await catchUpWithEpoch(context, dispatcherId, epoch, signal);
  const entry = context.view.dispatchers.get(dispatcherId);
  if (entry?.epoch === epoch) return entry;
  throw entry && entry.epoch > epoch
    ? replaced(dispatcherId, epoch, entry)
    : epochExpired(dispatcherId, epoch);
}

/** An epoch is a revision: when the view is behind it, another replica has only just handed it out. */
async function catchUpWithEpoch(
  context: OperationContext,
  dispatcherId: string,
  epoch: bigint,
  signal: AbortSignal,
) {
  const { revision } = await context.store.range({ key: context.keys.dispatcher(dispatcherId) }, signal);
  if (revision >= epoch) await catchUp(context, epoch, signal);
}

function epochExpired(dispatcherId: string, epoch: bigint) {
  return statusError(
    Code.FailedPrecondition,
    ErrorReason.EPOCH_EXPIRED,
    `epoch ${epoch} of dispatcher ${dispatcherId} is over: its lease ended and its claims are void; register again`,
    { metadata: { dispatcher_id: dispatcherId, epoch: String(epoch) } },
  );
}

function replaced(dispatcherId: string, epoch: bigint, by: DispatcherEntry) {
  return statusError(
    Code.FailedPrecondition,
    ErrorReason.DISPATCHER_REPLACED,
    `epoch ${epoch} of dispatcher ${dispatcherId} was replaced by epoch ${by.epoch}: another process uses this ID`,
    { metadata: { dispatcher_id: dispatcherId, epoch: String(epoch), live_epoch: String(by.epoch) } },
  );
}

/** @throws {ConnectError} NOT_FOUND when nobody is registered under the ID */
export function requireRegistered({ view }: OperationContext, dispatcherId: string): Dispatcher {
  const entry = view.dispatchers.get(dispatcherId);
  if (entry) return entry.dispatcher;
  throw statusError(
    Code.NotFound,
    ErrorReason.DISPATCHER_NOT_FOUND,
    `no dispatcher is registered as ${dispatcherId}; call RegisterDispatcher first`,
    { metadata: { dispatcher_id: dispatcherId } },
  );
}
