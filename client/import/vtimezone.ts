import type { RawComponent } from "./components.ts";
import { InputError } from "./problem.ts";
import { firstTime, type Property, readProperty, textValue, timesOf } from "./property.ts";
import { createBudget, expandRule } from "./recurrence.ts";
import { type RecurrenceRule, readRule } from "./recurrence-rule.ts";
import { utcZone, type Zone } from "./zone.ts";

/** A STANDARD or DAYLIGHT part: when its offset begins to hold, in the local time before. */
interface Observance {
  readonly fromMs: number;
  readonly toMs: number;
  readonly startLocalMs: number;
  readonly rules: readonly RecurrenceRule[];
  readonly extraLocalMs: readonly number[];
}

interface Transition {
  readonly atMs: number;
  readonly fromMs: number;
  readonly toMs: number;
}

/** Outlook lets its rules begin in 1601; nothing here is older than clocks with offsets. */
const EARLIEST_MS = Date.UTC(1900, 0, 1);

/** Transitions are worked out this far beyond the first time asked for. */
const HORIZON_MS = 20 * 366 * 86_400_000;

/** A century of yearly rules that name no month; a rule that needs more is broken. */
const MAX_STEPS = 200_000;

/** The zone that a VTIMEZONE describes, and its TZID. Throws InputError when it describes none. */
export function readTimeZone(component: RawComponent): { readonly tzid: string; readonly zone: Zone } {
  const [error] = component.errors;
  if (error) throw error;
  const idLine = component.lines.find(({ name }) => name === "TZID");
  if (!idLine) throw new InputError(component.line, "VTIMEZONE without a TZID");
  const observances = component.components
    .filter(({ name }) => name === "STANDARD" || name === "DAYLIGHT")
    .map(readObservance);
  if (observances.length === 0)
    throw new InputError(component.line, "VTIMEZONE without a STANDARD or DAYLIGHT part");
  return { tzid: textValue(readProperty(idLine)), zone: zoneOf(observances) };
}

function zoneOf(observances: readonly Observance[]): Zone {
  let untilMs = Number.NEGATIVE_INFINITY;
  let transitions: readonly Transition[] = [];
  return {
    offsetMsAt(utcMs) {
      if (utcMs > untilMs) {
        untilMs = utcMs + HORIZON_MS;
        transitions = transitionsUntil(observances, untilMs);
      }
      let low = 0;
      let high = transitions.length;
      while (low < high) {
        const middle = (low + high) >>> 1;
        if ((transitions[middle]?.atMs ?? 0) <= utcMs) low = middle + 1;
        else high = middle;
      }
      return transitions[low - 1]?.toMs ?? transitions[0]?.fromMs ?? 0;
    },
  };
}

function transitionsUntil(observances: readonly Observance[], untilMs: number): Transition[] {
  const transitions: Transition[] = [];
  for (const { fromMs, toMs, startLocalMs, rules, extraLocalMs } of observances) {
    const add = (localMs: number) => transitions.push({ atMs: localMs - fromMs, fromMs, toMs });
    add(startLocalMs);
    extraLocalMs.forEach(add);
    for (const rule of rules) {
      const window = { fromMs: EARLIEST_MS, untilMs: untilMs + fromMs };
      for (const localMs of expandRule(rule, startLocalMs, window, createBudget(MAX_STEPS))) {
        if (rule.until && (rule.until.isInstant ? localMs - fromMs : localMs) > rule.until.ms) break;
        add(localMs);
      }
    }
  }
  return transitions.sort((a, b) => a.atMs - b.atMs);
}

function readObservance(component: RawComponent): Observance {
  const [error] = component.errors;
  if (error) throw error;
  const properties = component.lines
    .filter(({ name }) => /^(DTSTART|TZOFFSETFROM|TZOFFSETTO|RRULE|RDATE)$/.test(name))
    .map(readProperty);
  const required = (name: string): Property => {
    const property = properties.find((candidate) => candidate.name === name);
    if (!property) throw new InputError(component.line, `${component.name} without ${name}`);
    return property;
  };
  const all = (name: string) => properties.filter((property) => property.name === name);
  const local = () => utcZone;
  return {
    fromMs: offsetOf(required("TZOFFSETFROM")),
    toMs: offsetOf(required("TZOFFSETTO")),
    startLocalMs: firstTime(required("DTSTART"), local).localMs,
    rules: all("RRULE").map(readRule),
    extraLocalMs: all("RDATE").flatMap((dates) => timesOf(dates, local).map(({ localMs }) => localMs)),
  };
}

const OFFSET = /^([+-])(\d{2}):(\d{2})(?::(\d{2}))?$/;

function offsetOf(property: Property): number {
  const match = OFFSET.exec(textValue(property));
  if (!match) throw new InputError(property.line, `${property.name}: not an offset such as +0100`);
  const [, sign, hours, minutes, seconds = "0"] = match;
  const totalS = Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds);
  if (totalS >= 86_400) throw new InputError(property.line, `${property.name}: a day or more`);
  return (sign === "-" ? -totalS : totalS) * 1000;
}
