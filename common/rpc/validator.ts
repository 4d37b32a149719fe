import { Code } from "@connectrpc/connect";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { type Duration, durationMs, type Timestamp, timestampMs } from "../time.ts";
import { statusError } from "./status.ts";

/**
 * Collects what is wrong with a request, field by field, so that the caller learns of everything at once. Each check
 * returns the value to go on with; call `done()` before using any of them.
 */
export interface Validator {
  /** Notes a violation of the field, named as in the proto, e.g. `dispatches[3].address`. */
  violation(field: string, description: string): void;
  /** An ID: 1 to 63 of `a-z 0-9 - . _`, beginning and ending with a letter or digit. */
  id(field: string, value: string): string;
  /** The same, or empty. */
  optionalId(field: string, value: string): string;
  /** An epoch or incarnation: at least 1. */
  epoch(field: string, value: bigint): bigint;
  /** A whole number in [min, max]; 0 stands for the default when there is one. */
  integer(field: string, value: number, range: { min: number; max: number; fallback?: number }): number;
  /** A duration in [minMs, maxMs], in milliseconds; the default when it is not set. */
  duration(
    field: string,
    value: Duration | undefined,
    range: { minMs: number; maxMs: number; fallbackMs: number },
  ): number;
  /** A required instant, in milliseconds since 1970. */
  timestamp(field: string, value: Timestamp | undefined): number;
  /** A text of at most this many bytes of UTF-8. */
  text(field: string, value: string, maxBytes: number): string;
  /** Labels: at most 64, keys of 1 to 63 bytes, values of at most 256. */
  labels(field: string, value: Readonly<Record<string, string>>): void;
  /** A list of `min` to `max` items. */
  size(field: string, items: readonly unknown[], range: { min: number; max: number }): void;
  /** A list in which no key comes twice. */
  unique<T>(field: string, items: readonly T[], key: (item: T) => string): void;
  /** @throws {ConnectError} INVALID_ARGUMENT with all violations, when there are any */
  done(): void;
}

const ID_PATTERN = /^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$/;
const ID_RULE = "must be 1 to 63 of a-z 0-9 - . _, beginning and ending with a letter or digit";

/** RFC 3339 and google.protobuf.Timestamp reach from year 1 to year 9999. */
const FIRST_TIMESTAMP_SECONDS = -62_135_596_800n;
const LAST_TIMESTAMP_SECONDS = 253_402_300_799n;

/** Beyond this many, violations only repeat each other. */
const MAX_VIOLATIONS = 100;

/** Errors travel in headers, of which many gRPC implementations take 8 KiB, and base64 adds a third. */
const MAX_VIOLATION_BYTES = 4_096;

/** So much of what the caller gave is enough to recognise it. */
const MAX_ECHO_LENGTH = 80;

/** Whether the text can be the ID of a conference, dispatcher or server. */
export function isId(text: string): boolean {
  return ID_PATTERN.test(text);
}

/** Shortens what may hold text of the caller's. */
function clip(text: string): string {
  return text.length <= 2 * MAX_ECHO_LENGTH ? text : `${text.slice(0, MAX_ECHO_LENGTH).toWellFormed()}…`;
}

export function createValidator(): Validator {
  const violations: { field: string; description: string }[] = [];
  let bytes = 0;
  let left = 0;
  const violation = (field: string, description: string) => {
    const clipped = { field: clip(field), description: clip(description) };
    const size = Buffer.byteLength(clipped.field) + Buffer.byteLength(clipped.description);
    if (violations.length === MAX_VIOLATIONS || bytes + size > MAX_VIOLATION_BYTES) {
      left += 1;
      return;
    }
    bytes += size;
    violations.push(clipped);
  };
  return {
    violation,
    id(field, value) {
      if (!isId(value)) violation(field, value === "" ? `is required: it ${ID_RULE}` : ID_RULE);
      return value;
    },
    optionalId(field, value) {
      return value === "" ? value : this.id(field, value);
    },
    epoch(field, value) {
      if (value < 1n) violation(field, "is required: give the number that was handed out, at least 1");
      return value;
    },
    integer(field, value, { min, max, fallback }) {
      if (value === 0 && fallback !== undefined) return fallback;
      if (value < min || value > max) violation(field, `must be from ${min} to ${max}`);
      return value;
    },
    duration(field, value, { minMs, maxMs, fallbackMs }) {
      if (!value) return fallbackMs;
      const ms = durationMs(value);
      const wellFormed = Math.abs(value.nanos) <= 999_999_999 && Number(value.seconds) * value.nanos >= 0;
      if (!wellFormed || !(ms >= minMs && ms <= maxMs))
        violation(field, `must be from ${minMs / 1000} s to ${maxMs / 1000} s`);
      return ms;
    },
    timestamp(field, value) {
      if (!value) {
        violation(field, "is required");
        return 0;
      }
      if (
        value.seconds < FIRST_TIMESTAMP_SECONDS ||
        value.seconds > LAST_TIMESTAMP_SECONDS ||
        value.nanos < 0 ||
        value.nanos > 999_999_999
      ) {
        violation(field, "must be a time from year 1 to year 9999");
        return 0;
      }
      return timestampMs(value);
    },
    text(field, value, maxBytes) {
      if (Buffer.byteLength(value) > maxBytes) violation(field, `must be at most ${maxBytes} bytes long`);
      return value;
    },
    labels(field, value) {
      const entries = Object.entries(value);
      if (entries.length > 64) violation(field, "must have at most 64 entries");
      for (const [key, text] of entries) {
        const keyBytes = Buffer.byteLength(key);
        if (keyBytes < 1 || keyBytes > 63) violation(field, "must have keys of 1 to 63 bytes");
        if (Buffer.byteLength(text) > 256) violation(`${field}[${key}]`, "must be at most 256 bytes long");
      }
    },
    size(field, items, { min, max }) {
      if (items.length < min || items.length > max) violation(field, `must have ${min} to ${max} entries`);
    },
    unique(field, items, key) {
      const seen = new Set<string>();
      items.forEach((item, index) => {
        const name = key(item);
        if (seen.has(name)) violation(`${field}[${index}]`, `repeats ${JSON.stringify(name)}`);
        seen.add(name);
      });
    },
    done() {
      if (violations.length === 0) return;
      const count = violations.length + left;
      const text = violations
        .slice(0, 3)
        .map(({ field, description }) => `${field} ${description}`)
        .join("; ");
      const rest = count > 3 ? `; and ${count - 3} more` : "";
      throw statusError(Code.InvalidArgument, ErrorReason.INVALID_FIELD, text + rest, { violations });
    },
  };
}
