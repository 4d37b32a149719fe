import { Code, ConnectError } from "@connectrpc/connect";
import { InvalidArgumentError } from "commander";
import { reasonOf } from "../../common/rpc/status.ts";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { BadRequestSchema } from "../../proto/gen/google/rpc/error_details_pb.js";
import { CliError, InterruptedError } from "./cli-error.ts";
import { ExitCode } from "./exit-code.ts";

/** An error as a person reads it. */
export interface ErrorReport {
  readonly message: string;
  readonly details: readonly string[];
  readonly hint: string | undefined;
  readonly exitCode: ExitCode;
}

/** @param endpoint where the call went, for the hints */
export function reportOf(error: unknown, endpoint: string): ErrorReport {
  if (error instanceof CliError) return error;
  if (error instanceof InterruptedError) return interrupted(error);
  if (error instanceof InvalidArgumentError)
    return { message: error.message, details: [], hint: undefined, exitCode: ExitCode.usage };
  if (error instanceof ConnectError) return reportOfStatus(error, endpoint);
  const message = error instanceof Error ? error.message || error.name : String(error);
  return { message, details: [], hint: undefined, exitCode: ExitCode.failed };
}

/** `error: …`, the details indented, then `hint: …`; no line feed at the end. */
export function formatReport({ message, details, hint }: ErrorReport): string {
  const lines = [`error: ${message}`, ...details.map((detail) => `  ${detail}`)];
  if (hint !== undefined) lines.push(`hint: ${hint}`);
  return lines.join("\n");
}

/** Whether every other call to the control plane would fail in the same way. */
export function isUnavailable(error: unknown): boolean {
  return (
    error instanceof ConnectError &&
    (error.code === Code.Unavailable || error.code === Code.DeadlineExceeded || error.code === Code.Canceled)
  );
}

function interrupted({ signalName }: InterruptedError): ErrorReport {
  return {
    message: signalName === "SIGINT" ? "interrupted" : "terminated",
    details: [],
    hint: undefined,
    exitCode: signalName === "SIGINT" ? ExitCode.interrupted : ExitCode.terminated,
  };
}

function reportOfStatus(error: ConnectError, endpoint: string): ErrorReport {
  if (error.cause instanceof InterruptedError) return interrupted(error.cause);
  const reason = reasonOf(error);
  const violations = error.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations);
  const report = {
    message: error.rawMessage || Code[error.code],
    details: [] as string[],
    hint: reason === undefined ? undefined : HINTS[reason],
    exitCode: EXIT_CODES[error.code] ?? ExitCode.failed,
  };
  if (violations.length > 0)
    return {
      ...report,
      message: "the control plane refused the request",
      details: violations.map(({ field, description }) => `${field} ${description}`),
    };
  // An error with a reason of ours came from a control plane; the others come from the way there, or from something else.
  if (reason !== undefined) return report;
  switch (error.code) {
    case Code.Unavailable: {
      const failure = connectFailure(error.rawMessage);
      return {
        ...report,
        message: `cannot reach the control plane at ${endpoint}`,
        details: [failure],
        hint: failure.startsWith(NOT_HTTP2)
          ? "something else answers there, perhaps the HTTP port (`convoke serve --http`, 7480); give the gRPC port (`--listen`, 7400)"
          : "is `convoke serve` running there? Name another with --endpoint or CONVOKE_ENDPOINT",
      };
    }
    case Code.DeadlineExceeded:
      return {
        ...report,
        message: `the control plane at ${endpoint} did not answer in time`,
        hint: "look at its log; whether the call took effect is not known",
      };
    case Code.Unimplemented:
      return {
        ...report,
        message: `what answers at ${endpoint} does not serve this call`,
        details: [error.rawMessage],
        hint: "is it a Convoke control plane of this version, and its gRPC port? `convoke version` tells this one's",
      };
    default:
      return report;
  }
}

/** What the system says of a peer that answers in something else than HTTP/2, as a listener of HTTP/1.1 does. */
const NOT_HTTP2 = "Protocol error";

/** What the system said, out of the sentence that grpc-js wraps it in; the whole sentence when it reads otherwise. */
function connectFailure(message: string): string {
  return /Last error: (?:Error: )?(?<cause>.+?)\. Resolution note:/.exec(message)?.groups?.cause ?? message;
}

const EXIT_CODES: Partial<Record<Code, ExitCode>> = {
  [Code.InvalidArgument]: ExitCode.usage,
  [Code.Unavailable]: ExitCode.unavailable,
  [Code.DeadlineExceeded]: ExitCode.unavailable,
};

const HINTS: Partial<Record<ErrorReason, string>> = {
  [ErrorReason.CONFERENCE_NOT_FOUND]: "`convoke get conferences` lists those there are",
  [ErrorReason.SERVER_NOT_FOUND]: "`convoke get servers` lists those there are",
  [ErrorReason.DISPATCHER_NOT_FOUND]: "`convoke get dispatchers` lists those that are registered",
  [ErrorReason.DISPATCH_NOT_FOUND]: "it is not placed now; `convoke get conference ID` tells its state",
  [ErrorReason.CONFERENCE_EXISTS]:
    "choose another ID, or give the --request-id it was made with to make the call safe to repeat",
  [ErrorReason.STATE_CONFLICT]: "`convoke get conference ID` tells its state",
  [ErrorReason.SERVER_IN_USE]:
    "`convoke drain ID` moves what it hosts, `convoke get dispatches --server ID` lists it",
  [ErrorReason.NOT_IMPLEMENTED]:
    "the control plane is of another version than this command, `convoke version`",
  [ErrorReason.STORE_UNAVAILABLE]: "the control plane has lost its store; try again, and look at its log",
  [ErrorReason.SHUTTING_DOWN]: "try again in a moment",
  [ErrorReason.CONTENTION]: "try again in a moment",
  [ErrorReason.INTERNAL]: "the log of the control plane says more",
};
