import { timestampMs } from "../../common/time.ts";
import { type Server, Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import { isoSeconds, textCell } from "./cells.ts";
import { causeWord, heldUntilMs } from "./health-words.ts";

/**
 * What has changed of a server, in words.
 * @param before as it was told last; undefined when it was not told yet
 */
export function describeChange(before: Server | undefined, after: Server): string {
  if (!before) return describeAll(after);
  const newLife = before.incarnation !== after.incarnation;
  const parts = [
    ...(newLife ? [`begins incarnation ${after.incarnation}`] : []),
    ...stateChange(before, after),
    ...cordonChange(before, after),
    ...(["agentAddress", "capacity", "region", "driver"] as const)
      .filter((field) => before[field] !== after[field])
      .map((field) => `${FIELD_WORDS[field]} ${show(before[field])} → ${show(after[field])}`),
    ...(labelsText(before) === labelsText(after) ? [] : ["other labels"]),
  ];
  return parts.length > 0 ? parts.join("; ") : "as before";
}

const FIELD_WORDS = {
  agentAddress: "agent",
  capacity: "capacity",
  region: "region",
  driver: "driver",
} as const;

/** The whole of its state, of a server that is told for the first time. */
function describeAll(server: Server): string {
  const { cordoned, drain } = server;
  const message = messageOf(server);
  return [
    ...(message ? [message] : [`incarnation ${server.incarnation} at ${textCell(server.agentAddress)}`]),
    ...heldText(server),
    ...(drain ? [drain.done ? "drained" : "draining"] : cordoned ? ["cordoned"] : []),
  ].join("; ");
}

function stateChange(before: Server, after: Server): string[] {
  const moved = before.state !== after.state;
  const told = before.health?.cause === after.health?.cause && messageOf(before) === messageOf(after);
  const held = heldUntilMs(before) === heldUntilMs(after) ? [] : heldText(after);
  if (!moved && told) return held;
  const message = messageOf(after) || causeWord(after.health);
  return [
    ...(moved ? [`${Server_State[before.state]} → ${Server_State[after.state]}: ${message}`] : [message]),
    ...held,
  ];
}

function heldText(server: Server): string[] {
  const untilMs = heldUntilMs(server);
  return untilMs === undefined ? [] : [`not UP before ${isoSeconds(untilMs)}`];
}

function cordonChange(before: Server, after: Server): string[] {
  const { drain, cordoned } = after;
  if (drain?.done && !before.drain?.done) return ["drained"];
  if (drain && !drain.done) {
    const deadlineMs = drain.deadline ? timestampMs(drain.deadline) : undefined;
    const earlierMs = before.drain?.deadline ? timestampMs(before.drain.deadline) : undefined;
    if (before.drain && !before.drain.done && earlierMs === deadlineMs) return [];
    const atOnce =
      deadlineMs === undefined || deadlineMs <= (drain.beginTime ? timestampMs(drain.beginTime) : 0);
    const until = atOnce ? "" : `, the rest moves at ${isoSeconds(deadlineMs)}`;
    return [`draining ${drain.conferenceCount} conferences${until}`];
  }
  const cancelled = before.drain && !before.drain.done && !drain ? ["drain cancelled"] : [];
  if (before.cordoned === cordoned) return cancelled;
  return [...cancelled, cordoned ? "cordoned" : "uncordoned"];
}

function messageOf({ health }: Server): string {
  return health?.message ? textCell(health.message) : "";
}

function show(value: string | number): string {
  return textCell(String(value));
}

function labelsText({ labels }: Server): string {
  return JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
}
