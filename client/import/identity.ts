import { createHash } from "node:crypto";

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

/** The contract's limit for a conference's name and for a series. */
const MAX_DISPLAY_NAME_BYTES = 256;
const MAX_SERIES_ID_BYTES = 1024;

/**
 * The ID of a conference that comes from a calendar: `cal-` and the base32 of a SHA-256 of the UID and of the instance's
 * original start (RECURRENCE-ID) in UTC, which an instance keeps when it is moved. An event that does not recur has none,
 * so it keeps its ID wherever it is moved.
 */
export function conferenceIdOf(uid: string, originalStartMs: number | undefined): string {
  const original = originalStartMs === undefined ? "" : new Date(originalStartMs).toISOString();
  return `cal-${digest(`${uid}\n${original}`)}`;
}

/** The ID of a conference given without one: a digest of what was given, so that giving it again changes nothing. */
export function conferenceIdOfContent(content: string): string {
  return `imp-${digest(content)}`;
}

/** The UID, or a digest of one that is longer than a series may be. */
export function seriesIdOf(uid: string): string {
  return Buffer.byteLength(uid) <= MAX_SERIES_ID_BYTES ? uid : `sha256:${digest(uid)}`;
}

/** One line of text, cut between characters to what a name may have. */
export function displayNameOf(text: string): string {
  const line = text.replace(/[\p{Cc}\s]+/gu, " ").trim();
  if (Buffer.byteLength(line) <= MAX_DISPLAY_NAME_BYTES) return line;
  let bytes = 0;
  let name = "";
  for (const character of line) {
    bytes += Buffer.byteLength(character);
    if (bytes > MAX_DISPLAY_NAME_BYTES) break;
    name += character;
  }
  return name;
}

function digest(text: string): string {
  const hash = createHash("sha256").update(text).digest();
  let value = 0;
  let bits = 0;
  let encoded = "";
  for (const byte of hash) {
    value = (value << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      encoded += BASE32[(value >>> bits) & 31];
    }
    value &= 31;
  }
  return encoded + BASE32[(value << (5 - bits)) & 31];
}
