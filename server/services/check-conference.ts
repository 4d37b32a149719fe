import type { Validator } from "../../common/rpc/validator.ts";
import type { Conference } from "../../proto/gen/convoke/v1/conference_pb.js";

/** Longer conferences are calendar mistakes more often than conferences. */
const MAX_DURATION_MS = 7 * 24 * 3_600_000;

/** Checks each field that a caller schedules, as far as it can be checked alone. */
export function checkConference(check: Validator, prefix: string, conference: Conference): void {
  check.text(`${prefix}display_name`, conference.displayName, 256);
  check.integer(`${prefix}expected_participants`, conference.expectedParticipants, { min: 0, max: 100_000 });
  check.integer(`${prefix}weight`, conference.weight, { min: 0, max: 100_000 });
  check.text(`${prefix}region`, conference.region, 63);
  check.labels(`${prefix}required_labels`, conference.requiredLabels);
  check.labels(`${prefix}preferred_labels`, conference.preferredLabels);
  check.labels(`${prefix}avoided_labels`, conference.avoidedLabels);
  check.text(`${prefix}series_id`, conference.seriesId, 1024);
}

/** Checks that start and end are there and in order. */
export function checkSchedule(check: Validator, prefix: string, conference: Conference): void {
  const startMs = check.timestamp(`${prefix}start_time`, conference.startTime);
  const endMs = check.timestamp(`${prefix}end_time`, conference.endTime);
  if (!conference.startTime || !conference.endTime) return;
  if (endMs <= startMs) check.violation(`${prefix}end_time`, "must be after start_time");
  else if (endMs - startMs > MAX_DURATION_MS)
    check.violation(`${prefix}end_time`, "must be within 7 days of start_time");
}
