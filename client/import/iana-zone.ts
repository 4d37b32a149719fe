import { DAY_MS, type Zone } from "./zone.ts";

/** Days kept in a zone's cache: a century, so that a hostile file cannot fill the memory. */
const MAX_CACHED_DAYS = 36_525;

const OFFSET = /^GMT(?:([+-])(\d{1,2}):(\d{2})(?::(\d{2}))?)?$/;

/** A zone of the IANA database that comes with the runtime, or undefined when it does not know the name. */
export function ianaZone(name: string): Zone | undefined {
  let format: Intl.DateTimeFormat;
  try {
    format = new Intl.DateTimeFormat("en-US", { timeZone: name, timeZoneName: "longOffset" });
  } catch {
    return undefined;
  }
  const dayStarts = new Map<number, number>();
  const atDayStart = (day: number) => {
    const cached = dayStarts.get(day);
    if (cached !== undefined) return cached;
    const offsetMs = readOffset(format, day * DAY_MS);
    if (dayStarts.size >= MAX_CACHED_DAYS) dayStarts.clear();
    dayStarts.set(day, offsetMs);
    return offsetMs;
  };
  return {
    offsetMsAt(utcMs) {
      const day = Math.floor(utcMs / DAY_MS);
      const offsetMs = atDayStart(day);
      // No zone changes twice in a day, so equal ends mean that nothing changed between.
      return atDayStart(day + 1) === offsetMs ? offsetMs : readOffset(format, utcMs);
    },
  };
}

function readOffset(format: Intl.DateTimeFormat, utcMs: number): number {
  const text = format.formatToParts(utcMs).find(({ type }) => type === "timeZoneName")?.value ?? "";
  const match = OFFSET.exec(text);
  if (!match) throw new Error(`the runtime gave the offset ${JSON.stringify(text)}`);
  const [, sign = "+", hours = "0", minutes = "0", seconds = "0"] = match;
  const totalS = Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds);
  return (sign === "-" ? -totalS : totalS) * 1000;
}
