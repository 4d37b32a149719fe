/** The key of an index in order of time, then ID: milliseconds since 1970, from year 1 on, as text that sorts so. */
export function timeKey(ms: number, id: string): string {
  return `${(ms + 1e14).toFixed(0).padStart(15, "0")}|${id}`;
}

/** The key after which all entries are later than this instant. */
export function timeKeyAfter(ms: number): string {
  return timeKey(ms, "\u{10ffff}");
}
