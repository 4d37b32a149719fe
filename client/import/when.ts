import { instantOf, utcZone } from "./zone.ts";
import { createZoneNames } from "./zone-finder.ts";

const DAY = /^(\d{4})-(\d{2})-(\d{2})$/;

/**
 * The first moment of a day such as 2030-01-31, in milliseconds since 1970, where the zone is; undefined when the text is
 * no day. @throws {RangeError} when the zone is unknown
 */
export function startOfDay(text: string, timezone: string | undefined): number | undefined {
  const match = DAY.exec(text);
  if (!match) return undefined;
  const [year = 0, month = 0, day = 0] = match.slice(1).map(Number);
  const localMs = Date.UTC(year, month - 1, day);
  if (new Date(localMs).toISOString().slice(0, 10) !== text) return undefined;
  const zone = timezone === undefined ? utcZone : createZoneNames().find(timezone);
  if (!zone) throw new RangeError(`unknown time zone ${JSON.stringify(timezone)}`);
  return instantOf(zone, localMs);
}
