import { type ContentLine, contentLines } from "./content-lines.ts";

import { InputError } from "./problem.ts";

/** A component as it stands in the file. */
export interface RawComponent {
  /** In upper case, such as VEVENT. */
  readonly name: string;
  /** The line of its BEGIN. */
  readonly line: number;
  readonly lines: readonly ContentLine[];
  readonly components: readonly RawComponent[];
  /** What is wrong with its lines; such a component is not to be trusted. */
  readonly errors: readonly InputError[];
}

interface OpenComponent extends RawComponent {
  readonly lines: ContentLine[];
  readonly components: RawComponent[];
  readonly errors: InputError[];
}

/** Components whose content matters here; the lines of all others are passed over. */
const READ = new Set(["VCALENDAR", "VEVENT", "VTIMEZONE", "STANDARD", "DAYLIGHT"]);

/** Long properties that nothing here reads: leaving them out keeps large files small in memory. */
const DROPPED = new Set(["DESCRIPTION", "X-ALT-DESC", "ATTACH", "COMMENT"]);

export interface CalendarFile {
  readonly calendars: readonly RawComponent[];
  /** What is wrong outside of events and time zones. */
  readonly errors: readonly InputError[];
}

/**
 * The calendars of a file. What is wrong inside an event or a time zone is noted there; the components that follow are
 * read all the same.
 */
export function readComponents(file: Uint8Array): CalendarFile {
  const root = openComponent("", 1);
  const stack: OpenComponent[] = [];
  for (const line of contentLines(file)) {
    const open = stack.at(-1) ?? root;
    if (line.name === "BEGIN") {
      const name = componentName(line);
      // Only a missing END brings one of these inside another.
      if (name === "VEVENT" || name === "VCALENDAR" || name === "VTIMEZONE")
        closeUpTo(stack, root, name === "VCALENDAR" ? undefined : "VCALENDAR");
      stack.push(openComponent(name, line.line));
    } else if (line.name === "END") {
      closeNamed(stack, root, componentName(line), line.line);
    } else if (line.name === "" || !line.bytes.includes(":")) {
      if (open === root || READ.has(open.name))
        open.errors.push(new InputError(line.line, `not a content line: ${excerpt(line.bytes)}`));
    } else if (open === root) {
      root.errors.push(new InputError(line.line, `a property outside of a calendar: ${line.name}`));
    } else if (READ.has(open.name) && !DROPPED.has(line.name)) {
      open.lines.push(line);
    }
  }
  closeUpTo(stack, root, undefined);
  const errors = [...root.errors];
  for (const calendar of root.components) errors.push(...calendar.errors);
  const calendars = root.components.filter(({ name }) => name === "VCALENDAR");
  if (calendars.length === 0 && errors.length === 0)
    errors.push(new InputError(1, "no VCALENDAR: this is not an iCalendar file"));
  return { calendars, errors };
}

function openComponent(name: string, line: number): OpenComponent {
  return { name, line, lines: [], components: [], errors: [] };
}

function componentName({ bytes }: ContentLine): string {
  return bytes
    .slice(bytes.indexOf(":") + 1)
    .trim()
    .toUpperCase();
}

/** Closes what is open down to the named component, which stays open; each that is closed lacks its END. */
function closeUpTo(stack: OpenComponent[], root: OpenComponent, name: string | undefined) {
  while (stack.length > 0 && stack.at(-1)?.name !== name) {
    const open = stack.pop();
    if (!open) return;
    open.errors.push(new InputError(open.line, `${open.name} has no END`));
    attach(open, stack.at(-1) ?? root);
  }
}

function closeNamed(stack: OpenComponent[], root: OpenComponent, name: string, line: number) {
  if (!stack.some((open) => open.name === name)) {
    (stack.at(-1) ?? root).errors.push(new InputError(line, `END:${name} without its BEGIN`));
    return;
  }
  closeUpTo(stack, root, name);
  const open = stack.pop();
  if (open) attach(open, stack.at(-1) ?? root);
}

/** A broken part breaks the event or zone around it, but never the whole calendar. */
function attach(component: OpenComponent, parent: OpenComponent) {
  if (READ.has(component.name)) parent.components.push(component);
  if (parent.name !== "VCALENDAR" && parent.name !== "") parent.errors.push(...component.errors);
  else if (!READ.has(component.name)) parent.errors.push(...component.errors);
}

function excerpt(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}
