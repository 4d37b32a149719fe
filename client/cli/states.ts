import { InvalidArgumentError } from "commander";

/** The states people filter by; listed here because loading the enum takes longer than printing `--help`. */
export const CONFERENCE_STATES = ["scheduled", "claimed", "active", "ended", "cancelled", "failed"] as const;
export const SERVER_STATES = ["up", "suspect", "down"] as const;

/** Collects `--state`, repeated or with commas between, into upper-case names. */
export function stateCollector(states: readonly string[]): (text: string, previous?: string[]) => string[] {
  return (text, previous = []) => {
    const names = text.split(",").map((name) => name.trim().toLowerCase());
    if (!names.every((name) => states.includes(name)))
      throw new InvalidArgumentError(`Write one or more of ${states.join(", ")}.`);
    return [...new Set([...previous, ...names.map((name) => name.toUpperCase())])];
  };
}
