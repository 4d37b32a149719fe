import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "../../common/time.ts";
import { BrakeRecordSchema } from "../../proto/gen/convoke/store/v1/records_pb.js";
import { type Brake, BrakeSchema } from "../../proto/gen/convoke/v1/detection_pb.js";
import { assessBrake } from "../health/assess.ts";
import type { BrakeCount } from "../health/brake.ts";
import { createObservers } from "../health/votes.ts";
import { catchUp, contention, type OperationContext, requireFresh, writerOf } from "./context.ts";

/** Others that write it at the same moment, each verdict of DOWN among them, are let pass this often. */
const MAX_TRIES = 20;

/** The brake by the view as it is. */
export function readBrake({
  view,
  settings,
  clock,
}: Pick<OperationContext, "view" | "settings" | "clock">): Brake {
  const nowMs = clock.wallMs();
  const observers = createObservers(settings.detection);
  const { count, heldServerIds } = assessBrake(view, observers, settings.detection, nowMs);
  const { releasedUntilMs } = view.brake;
  return create(BrakeSchema, {
    engaged: count.isEngaged,
    failingServers: count.failing,
    servers: count.servers,
    allowedServers: count.allowed,
    heldServerIds: [...heldServerIds],
    message: messageOf(count, heldServerIds.length, releasedUntilMs),
    ...(releasedUntilMs > nowMs ? { releasedUntil: timestampFromMs(releasedUntilMs) } : {}),
  });
}

/** Lets servers be declared DOWN for so long, however many fail. A release under way is replaced. */
export async function releaseBrake(
  context: OperationContext,
  durationMs: number,
  signal: AbortSignal,
): Promise<Brake> {
  requireFresh(context);
  const { keys, view, logger } = context;
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const { nowMs, attemptId } = writerOf(context);
    const releasedUntilMs = Math.round(nowMs + durationMs);
    const value = encodeBrake(releasedUntilMs, attemptId);
    const write = { key: keys.brake, modRevision: view.brake.modRevision, value };
    const result = await context.write("brake", [], [write], signal);
    await catchUp(context, result.revision, signal);
    if (result.fenced || !result.written.has(keys.brake)) continue;
    logger.warn({ releasedUntil: new Date(releasedUntilMs).toISOString() }, "brake released");
    return readBrake(context);
  }
  throw contention("the brake");
}

export function encodeBrake(releasedUntilMs: number, attemptId: string): Uint8Array {
  const record = create(BrakeRecordSchema, { releasedUntilMs: BigInt(releasedUntilMs), attemptId });
  return toBinary(BrakeRecordSchema, record);
}

function messageOf(
  { failing, servers, allowed, isEngaged, isReleased }: BrakeCount,
  held: number,
  releasedUntilMs: number,
): string {
  const fail = `${failing} of ${servers} servers fail or were declared DOWN lately, ${allowed} may`;
  const until = new Date(releasedUntilMs).toISOString();
  if (isReleased) return `${fail}: released until ${until}`;
  if (!isEngaged) return fail;
  return `${fail}: nothing is declared DOWN, ${held} held; release it with \`convoke release-brake\` if they are really dead`;
}
