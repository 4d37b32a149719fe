import type { DescService } from "@bufbuild/protobuf";
import { Code, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { abortStatus, statusError } from "../../common/rpc/status.ts";
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

/**
 * Handlers whose store errors go out as statuses. What fails because the call was given up goes out as the reason for
 * that: cancelled, past its deadline, or shutting down.
 */
export function withStoreStatus<S extends DescService>(impl: ServiceImpl<S>): ServiceImpl<S> {
  const wrapped: Record<string, unknown> = {};
  for (const [name, method] of Object.entries<(request: never, context: HandlerContext) => unknown>(impl)) {
    wrapped[name] = (request: never, context: HandlerContext) => {
      const result = method(request, context);
      const rethrow = (err: unknown): never => {
        throw isAbort(err, context.signal) ? abortStatus(context.signal) : fromStoreError(err);
      };
      return isAsyncIterable(result) ? mapErrors(result, rethrow) : Promise.resolve(result).catch(rethrow);
    };
  }
  return wrapped as ServiceImpl<S>;
}

async function* mapErrors(items: AsyncIterable<unknown>, rethrow: (err: unknown) => never) {
  try {
    yield* items;
  } catch (err) {
    rethrow(err);
  }
}

/** The store rejects with an error of its own when the signal aborts, so any of its errors counts after that. */
function isAbort(err: unknown, signal: AbortSignal): boolean {
  return signal.aborted && (err === signal.reason || err instanceof StoreError);
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}
