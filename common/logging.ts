import { Code, ConnectError } from "@connectrpc/connect";
import pino, { type Logger } from "pino";
import { reasonName, reasonOf } from "./rpc/status.ts";

export type { Logger };

/** Levels a person may ask for, most talkative first. */
export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** A logger that writes JSON lines to standard error, where they mix with no output that programs read. */
export function createLogger(name: string, level: LogLevel): Logger {
  return pino(
    {
      name,
      level,
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { err: describeError },
    },
    pino.destination({ dest: 2, sync: true }),
  );
}

/**
 * A failed call is told by its code, reason and message: where it was noticed says nothing about its cause. Any other
 * error is one of ours, and comes with its stack.
 */
export function describeError(err: unknown): unknown {
  if (!(err instanceof ConnectError) || err.code === Code.Internal) {
    return err instanceof Error ? pino.stdSerializers.err(err) : err;
  }
  const reason = reasonOf(err);
  return {
    code: Code[err.code],
    ...(reason === undefined ? {} : { reason: reasonName(reason) }),
    message: err.rawMessage,
  };
}
