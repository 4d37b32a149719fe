import type { DescService } from "@bufbuild/protobuf";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { statusError } from "../../common/rpc/status.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { storeUnavailable } from "../operations/context.ts";
import { StoreError, type StoreErrorCode } from "../store/store.ts";

const MESSAGES: Partial<Record<StoreErrorCode, string>> = {
  unavailable: "the store cannot be reached; nothing was written",
  unknown_outcome:
    "the store did not answer in time; whether the write took effect is unknown, so read before repeating it",
  no_space: "the store has no space left; nothing was written until an operator makes room",
};

/** What a caller is told of an error of the store; other errors as they are. */
export function fromStoreError(err: unknown): unknown {
  if (!(err instanceof StoreError)) return err;
  const message = MESSAGES[err.code];
  if (message) return storeUnavailable(message, { cause: err });
  return statusError(Code.Internal, ErrorReason.INTERNAL, "internal error; the log of the server says more", {
    cause: err,
  });
}

/** Handlers whose store errors go out as statuses, and whose aborts go out as the reason of the abort. */
export function withStoreStatus<S extends DescService>(impl: ServiceImpl<S>): ServiceImpl<S> {
  const wrapped: Record<string, unknown> = {};
  for (const [name, method] of Object.entries<(request: never, context: never) => unknown>(impl)) {
    wrapped[name] = (request: never, context: never) => {
      const result = method(request, context);
      return isAsyncIterable(result) ? mapErrors(result) : Promise.resolve(result).catch(rethrow);
    };
  }
  return wrapped as ServiceImpl<S>;
}

async function* mapErrors(items: AsyncIterable<unknown>) {
  try {
    yield* items;
  } catch (err) {
    rethrow(err);
  }
}

function rethrow(err: unknown): never {
  const mapped = fromStoreError(err);
  // Node's own AbortError says nothing of why; Connect's reasons are errors with a code already.
  if (mapped instanceof Error && mapped.name === "AbortError")
    throw new ConnectError("the call was cancelled", Code.Canceled);
  throw mapped;
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}
