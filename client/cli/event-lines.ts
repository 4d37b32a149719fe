import { type JsonObject, toJson } from "@bufbuild/protobuf";
import { stringify } from "yaml";
import type { Clock } from "../../common/clock.ts";
import {
  type DispatchEvent,
  DispatchEvent_Cause,
  DispatchEventSchema,
} from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";
import { EMPTY_CELL, isoSeconds, textCell } from "./cells.ts";
import type { OutputFormat } from "./options.ts";

/** Turns the events of a watch into text, one at a time. */
export interface EventFormatter {
  /** Printed once before the first; empty for none. */
  readonly header: string;
  /**
   * One line for table and JSON, one document for YAML. Its time is when the event was received.
   * @param resumeRevision what a later watch may resume after without losing a change
   */
  line(event: DispatchEvent, resumeRevision: bigint): string;
}

/** Whether the row was there when the watch began, or began again. */
export function isExisting({ cause }: DispatchEvent): boolean {
  return cause === DispatchEvent_Cause.EXISTING;
}

/** Rows come one by one, so widths are fixed: as wide as the longest value, or as most IDs are. */
const WIDTHS = [20, 6, 11, 24, 12, 12] as const;

export function createEventFormatter(format: OutputFormat, clock: Clock): EventFormatter {
  if (format === "table")
    return {
      header: row(["TIME", "TYPE", "CAUSE", "CONFERENCE", "SERVER", "FROM", "ADDRESS"]),
      line: ({ type, cause, dispatch }) =>
        row([
          isoSeconds(clock.wallMs()),
          EventType[type] ?? String(type),
          DispatchEvent_Cause[cause] ?? String(cause),
          dispatch?.conferenceId || EMPTY_CELL,
          dispatch?.serverId || EMPTY_CELL,
          dispatch?.previousServerId || EMPTY_CELL,
          textCell(dispatch?.address ?? ""),
        ]),
    };
  const jsonOf = (event: DispatchEvent, resumeRevision: bigint) => ({
    time: new Date(clock.wallMs()).toISOString(),
    revision: String(resumeRevision),
    ...(toJson(DispatchEventSchema, event) as JsonObject),
  });
  if (format === "json")
    return { header: "", line: (event, revision) => JSON.stringify(jsonOf(event, revision)) };
  return { header: "", line: (event, revision) => `---\n${stringify(jsonOf(event, revision)).trimEnd()}` };
}

function row(cells: readonly string[]): string {
  return cells
    .map((cell, index) => cell.padEnd(WIDTHS[index] ?? 0))
    .join("  ")
    .trimEnd();
}
