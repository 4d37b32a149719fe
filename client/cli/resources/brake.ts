import { timestampMs } from "../../../common/time.ts";
import { type Brake, BrakeSchema } from "../../../proto/gen/convoke/v1/detection_pb.js";
import { EMPTY_CELL, shortDuration, textCell } from "../cells.ts";
import type { Resource } from "../output.ts";

/** So many IDs fit a line. */
const MAX_IDS = 8;

export const brakeResource: Resource<typeof BrakeSchema> = {
  singular: "brake",
  plural: "brakes",
  schema: BrakeSchema,
  columns: [
    { header: "BRAKE", cell: brakeWord },
    { header: "FAILING", cell: (brake) => `${brake.failingServers}/${brake.servers}` },
    { header: "ALLOWED", cell: (brake) => String(brake.allowedServers) },
    { header: "RELEASED-FOR", cell: releasedCell },
    { header: "HELD", cell: (brake) => idsText(brake.heldServerIds, ",") || EMPTY_CELL },
    { header: "MESSAGE", cell: (brake) => textCell(brake.message) },
  ],
};

/** `ready`, `engaged` or `released`. */
function brakeWord(brake: Brake, nowMs: number): string {
  if (releasedCell(brake, nowMs) !== EMPTY_CELL) return "released";
  return brake.engaged ? "engaged" : "ready";
}

/** How much longer the brake is released: `4m`. */
function releasedCell({ releasedUntil }: Brake, nowMs: number): string {
  const leftMs = releasedUntil ? timestampMs(releasedUntil) - nowMs : 0;
  return leftMs > 0 ? shortDuration(leftMs) : EMPTY_CELL;
}

/** The IDs on one line, the first few of many. */
export function idsText(ids: readonly string[], separator = ", "): string {
  const shown = ids.slice(0, MAX_IDS);
  if (ids.length > MAX_IDS) shown.push(`+${ids.length - MAX_IDS}`);
  return shown.join(separator);
}
