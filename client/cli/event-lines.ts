import { type DescMessage, type JsonObject, type MessageShape, toJson } from "@bufbuild/protobuf";
import { stringify } from "yaml";
import type { Clock } from "../../common/clock.ts";
import {
  type DispatchEvent,
  DispatchEvent_Cause,
  DispatchEventSchema,
} from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { type Server, Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { type ServerEvent, ServerEventSchema } from "../../proto/gen/convoke/v1/server_service_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";
import { EMPTY_CELL, isoSeconds, textCell } from "./cells.ts";
import { causeWord, moveWord } from "./health-words.ts";
import type { OutputFormat } from "./options.ts";
import { describeChange } from "./server-changes.ts";

/** Turns the events of a watch into text, one at a time. */
export interface EventFormatter<E> {
  /** Printed once before the first; empty for none. */
  readonly header: string;
  /**
   * One line for table and JSON, one document for YAML. Its time is when the event was received.
   * @param resumeRevision what a later watch may resume after without losing a change
   */
  line(event: E, resumeRevision: bigint): string;
}

/** Whether the row was there when the watch began, or began again. */
export function isExisting({ cause }: DispatchEvent): boolean {
  return cause === DispatchEvent_Cause.EXISTING;
}

/** Whether the conference was moved from another server. */
export function isMove({ cause }: DispatchEvent): boolean {
  return cause === DispatchEvent_Cause.MOVED;
}

/** Events come one by one, so widths are fixed: as wide as the longest value, or as most IDs are. */
const DISPATCH_WIDTHS = [20, 6, 11, 24, 12, 12, 17, 8];

export function createDispatchFormatter(format: OutputFormat, clock: Clock): EventFormatter<DispatchEvent> {
  if (format !== "table") return createDocumentFormatter(DispatchEventSchema, format, clock);
  const row = rowOf(DISPATCH_WIDTHS);
  return {
    header: row(["TIME", "TYPE", "CAUSE", "CONFERENCE", "SERVER", "FROM", "WHY", "EPOCH", "ADDRESS"]),
    line: ({ type, cause, dispatch }) =>
      row([
        isoSeconds(clock.wallMs()),
        EventType[type] ?? String(type),
        DispatchEvent_Cause[cause] ?? String(cause),
        dispatch?.conferenceId || EMPTY_CELL,
        dispatch?.serverId || EMPTY_CELL,
        dispatch?.previousServerId || EMPTY_CELL,
        dispatch ? moveWord(dispatch.moveReason) : EMPTY_CELL,
        dispatch ? String(dispatch.epoch) : EMPTY_CELL,
        textCell(dispatch?.address ?? ""),
      ]),
  };
}

const SERVER_WIDTHS = [20, 12, 8, 14];

/** Remembers each server as it was told last, so that a line can say what has changed. */
export function createServerFormatter(format: OutputFormat, clock: Clock): EventFormatter<ServerEvent> {
  if (format !== "table") return createDocumentFormatter(ServerEventSchema, format, clock);
  const row = rowOf(SERVER_WIDTHS);
  const told = new Map<string, Server>();
  return {
    header: row(["TIME", "SERVER", "STATE", "WHY", "CHANGE"]),
    line({ type, server }) {
      const time = isoSeconds(clock.wallMs());
      if (!server) return row([time, EMPTY_CELL, EMPTY_CELL, EMPTY_CELL, EMPTY_CELL]);
      const { serverId, state, health } = server;
      if (type === EventType.DELETE) {
        told.delete(serverId);
        return row([time, serverId, EMPTY_CELL, EMPTY_CELL, "removed"]);
      }
      const change = describeChange(told.get(serverId), server);
      told.set(serverId, server);
      return row([time, serverId, Server_State[state] ?? String(state), causeWord(health), change]);
    },
  };
}

function createDocumentFormatter<D extends DescMessage>(
  schema: D,
  format: "json" | "yaml",
  clock: Clock,
): EventFormatter<MessageShape<D>> {
  const jsonOf = (event: MessageShape<D>, resumeRevision: bigint) => ({
    time: new Date(clock.wallMs()).toISOString(),
    revision: String(resumeRevision),
    ...(toJson(schema, event) as JsonObject),
  });
  if (format === "json")
    return { header: "", line: (event, revision) => JSON.stringify(jsonOf(event, revision)) };
  return { header: "", line: (event, revision) => `---\n${stringify(jsonOf(event, revision)).trimEnd()}` };
}

function rowOf(widths: readonly number[]): (cells: readonly string[]) => string {
  return (cells) =>
    cells
      .map((cell, index) => cell.padEnd(widths[index] ?? 0))
      .join("  ")
      .trimEnd();
}
