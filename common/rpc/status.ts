import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import {
  type BadRequest_FieldViolation,
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../../proto/gen/google/rpc/error_details_pb.js";
import { durationFromMs } from "../time.ts";

/** The domain of every `google.rpc.ErrorInfo` of ours. */
export const ERROR_DOMAIN = "convoke";

export interface StatusOptions {
  /** Goes into ErrorInfo: what a program may want to know beyond the reason. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Adds RetryInfo: repeating the call after this many milliseconds may succeed. */
  readonly retryAfterMs?: number;
  /** Adds BadRequest. */
  readonly violations?: readonly Pick<BadRequest_FieldViolation, "field" | "description">[];
  /** What it came from; logged, never sent. */
  readonly cause?: unknown;
}

/** The one error on the wire: a gRPC code, a stable reason, details, and a message that says what to do. */
export function statusError(
  code: Code,
  reason: ErrorReason,
  message: string,
  options: StatusOptions = {},
): ConnectError {
  const error = new ConnectError(message, code, undefined, undefined, options.cause);
  error.details.push({
    desc: ErrorInfoSchema,
    value: create(ErrorInfoSchema, {
      reason: reasonName(reason),
      domain: ERROR_DOMAIN,
      metadata: { ...options.metadata },
    }),
  });
  if (options.violations) {
    error.details.push({
      desc: BadRequestSchema,
      value: create(BadRequestSchema, {
        fieldViolations: options.violations.map((violation) => ({ ...violation })),
      }),
    });
  }
  if (options.retryAfterMs !== undefined) {
    error.details.push({
      desc: RetryInfoSchema,
      value: create(RetryInfoSchema, { retryDelay: durationFromMs(options.retryAfterMs) }),
    });
  }
  return error;
}

/** A reason's name on the wire: without the prefix of the enum. */
export function reasonName(reason: ErrorReason): string {
  return ErrorReason[reason];
}

/** The reason that an error of ours carries; undefined for other errors, and for reasons newer than this program. */
export function reasonOf(error: unknown): ErrorReason | undefined {
  if (!(error instanceof ConnectError)) return undefined;
  for (const info of error.findDetails(ErrorInfoSchema)) {
    if (info.domain !== ERROR_DOMAIN) continue;
    const reason = ErrorReason[info.reason as keyof typeof ErrorReason];
    if (reason !== undefined) return reason;
  }
  return undefined;
}

/** What a call that was given up answers: why, where the reason says so, and else that it was cancelled. */
export function abortStatus({ reason }: AbortSignal): ConnectError {
  return reason instanceof ConnectError ? reason : new ConnectError("the call was cancelled", Code.Canceled);
}

/**
 * Turns whatever a handler threw into the error that is sent: an error with a status goes out as it is, anything else
 * as INTERNAL without its text, which may hold what callers should not see.
 */
export function toStatus(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  return statusError(Code.Internal, ErrorReason.INTERNAL, "internal error; the log of the server says more", {
    cause: error,
  });
}
