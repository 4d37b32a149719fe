import type { RawComponent } from "./components.ts";
import { ianaZone } from "./iana-zone.ts";
import { InputError } from "./problem.ts";
import { readProperty, textValue, type ZoneLookup } from "./property.ts";
import { readTimeZone } from "./vtimezone.ts";
import { windowsZone } from "./windows-zones.ts";
import { utcZone, type Zone } from "./zone.ts";

/** Zones by name, each made once: the IANA database of the runtime, and the names Windows has for them. */
export interface ZoneNames {
  find(name: string): Zone | undefined;
}

export function createZoneNames(): ZoneNames {
  const known = new Map<string, Zone | undefined>();
  return {
    find(name) {
      if (!known.has(name)) known.set(name, namedZone(name));
      return known.get(name);
    },
  };
}

/** A name as it is, as Windows knows it, or at the end of a path such as `/example.org/2005/Europe/Berlin`. */
function namedZone(name: string): Zone | undefined {
  const direct = ianaZone(windowsZone(name) ?? name);
  if (direct || !name.startsWith("/")) return direct;
  const parts = name.split("/");
  for (let at = Math.max(1, parts.length - 3); at < parts.length; at++) {
    const zone = ianaZone(parts.slice(at).join("/"));
    if (zone) return zone;
  }
  return undefined;
}

export interface CalendarZones {
  readonly lookup: ZoneLookup;
  readonly errors: readonly InputError[];
}

/**
 * The zones of one calendar. A VTIMEZONE in it wins over what the runtime knows under that name. Floating times are read
 * in `floating` when it is given, else in the calendar's X-WR-TIMEZONE, else in UTC.
 */
export function calendarZones(
  calendar: RawComponent,
  names: ZoneNames,
  floating: Zone | undefined,
): CalendarZones {
  const own = new Map<string, Zone>();
  const errors: InputError[] = [];
  for (const component of calendar.components.filter(({ name }) => name === "VTIMEZONE")) {
    try {
      const { tzid, zone } = readTimeZone(component);
      own.set(tzid, zone);
    } catch (err) {
      if (!(err instanceof InputError)) throw err;
      errors.push(err);
    }
  }
  const find = (tzid: string, line: number): Zone => {
    const zone = own.get(tzid) ?? names.find(tzid);
    if (zone) return zone;
    throw new InputError(
      line,
      `unknown time zone ${JSON.stringify(tzid)}, and the file has no VTIMEZONE for it`,
    );
  };
  const declared = calendar.lines.find(({ name }) => name === "X-WR-TIMEZONE");
  return {
    errors,
    lookup(tzid, line) {
      if (tzid !== undefined) return find(tzid, line);
      if (floating) return floating;
      return declared ? find(textValue(readProperty(declared)), declared.line) : utcZone;
    },
  };
}
