import {
  CompareResult,
  CompareTarget,
  type ICompare,
  type IKeyValue,
  type IRangeRequest,
  type IRangeResponse,
  type IRequestOp,
  type ITxnRequest,
  type ITxnResponse,
} from "etcd3";
import type {
  Compare,
  KeySelector,
  KeyValue,
  Operation,
  RangeRequest,
  RangeResult,
  TxnRequest,
  TxnResult,
} from "../store.ts";

/** In etcd's API an end of one zero byte means no end, and a start of one the first key. */
const ZERO = Buffer.from([0]);

/** etcd's range of the keys with a prefix: from it to the prefix with its last byte raised, which UTF-8 always allows. */
export function prefixRange(prefix: string): { key: Buffer; range_end: Buffer } {
  const key = Buffer.from(prefix);
  const last = key.at(-1);
  if (last === undefined) return { key: ZERO, range_end: ZERO };
  return { key, range_end: Buffer.from([...key.subarray(0, -1), last + 1]) };
}

function selectorRange(selector: KeySelector): IRangeRequest & { key: Buffer } {
  return "key" in selector ? { key: Buffer.from(selector.key) } : prefixRange(selector.prefix);
}

export function toRangeRequest(request: RangeRequest): IRangeRequest {
  const { revision, after, limit } = request;
  const range = selectorRange(request);
  if (revision !== undefined) range.revision = String(revision);
  if (limit !== undefined) range.limit = String(limit);
  if (after === undefined) return range;
  const start = Buffer.concat([Buffer.from(after), ZERO]);
  if (Buffer.compare(start, range.key) <= 0) return range;
  const { range_end: end } = range;
  const isEmpty = !end || (!end.equals(ZERO) && Buffer.compare(start, end) >= 0);
  // Only the revision is wanted then; etcd has had trouble with ranges that end before they start.
  return isEmpty ? { ...range, range_end: Buffer.alloc(0), count_only: true } : { ...range, key: start };
}

export function toRangeResult({ revision }: RangeRequest, response: IRangeResponse): RangeResult {
  return {
    revision: revision ?? BigInt(response.header.revision),
    kvs: response.kvs.map(toKeyValue),
    more: response.more,
  };
}

export function toKeyValue(kv: IKeyValue): KeyValue {
  return {
    key: kv.key.toString(),
    value: kv.value,
    createRevision: BigInt(kv.create_revision),
    modRevision: BigInt(kv.mod_revision),
    version: BigInt(kv.version),
    lease: BigInt(kv.lease),
  };
}

export function toTxnRequest(request: TxnRequest): ITxnRequest {
  return {
    compare: request.compare.map(toCompare),
    success: request.then.map(toRequestOp),
    failure: (request.else ?? []).map(toRequestOp),
  };
}

function toCompare(compare: Compare): ICompare {
  const key = Buffer.from(compare.key);
  const result = CompareResult.Equal;
  return "createRevision" in compare
    ? { key, result, target: CompareTarget.Create, create_revision: String(compare.createRevision) }
    : { key, result, target: CompareTarget.Mod, mod_revision: String(compare.modRevision) };
}

function toRequestOp(operation: Operation): IRequestOp {
  if ("get" in operation) return { request_range: selectorRange(operation.get) };
  if ("delete" in operation) return { request_delete_range: { key: Buffer.from(operation.delete.key) } };
  const { key, value, lease = 0n } = operation.put;
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  return { request_put: { key: Buffer.from(key), value: bytes, lease: String(lease) } };
}

export function toTxnResult(request: TxnRequest, response: ITxnResponse): TxnResult {
  const { succeeded, responses, header } = response;
  const branch = (succeeded ? request.then : request.else) ?? [];
  const gets = branch.flatMap((operation, index) =>
    "get" in operation ? [(responses[index]?.response_range?.kvs ?? []).map(toKeyValue)] : [],
  );
  return { succeeded, revision: BigInt(header.revision), gets };
}

/** Whether a transaction can write, whichever branch runs. */
export function canWrite({ then, else: otherwise = [] }: TxnRequest): boolean {
  return [...then, ...otherwise].some((operation) => !("get" in operation));
}
