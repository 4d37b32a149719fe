import { create } from "@bufbuild/protobuf";
import {
  type Duration,
  DurationSchema,
  type Timestamp,
  timestampFromMs,
  timestampMs,
} from "@bufbuild/protobuf/wkt";

export { type Duration, type Timestamp, timestampFromMs, timestampMs };

/** A Duration of this many milliseconds; fractions below a nanosecond are dropped. */
export function durationFromMs(ms: number): Duration {
  const seconds = Math.trunc(ms / 1000);
  return create(DurationSchema, { seconds: BigInt(seconds), nanos: Math.trunc((ms - seconds * 1000) * 1e6) });
}

/** A Duration in milliseconds, with its fraction. */
export function durationMs(duration: Duration): number {
  return Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}
