import { conferenceIdOf, seriesIdOf } from "./identity.ts";
import type { Occurrence } from "./series.ts";

/** One conference as a calendar has it. */
export interface CalendarInstance {
  /** Derived from the series and the original start, so it survives a move. See `conferenceIdOf`. */
  readonly conferenceId: string;
  /** The UID of the event; see `seriesIdOf`. */
  readonly seriesId: string;
  /** The SUMMARY, at most 256 bytes. */
  readonly displayName: string;
  /** Milliseconds since 1970. */
  readonly startMs: number;
  /** Milliseconds since 1970; after `startMs`. */
  readonly endMs: number;
  /** Attendees that have not declined and the organizer; at least 1. Rooms and resources are not counted. */
  readonly expectedParticipants: number;
  /** Capacity units: as many as participants are expected. */
  readonly weight: number;
  /** It is called off in the calendar. */
  readonly cancelled: boolean;
  /** The file it was read from. */
  readonly file: string;
  /** The line of its event in the file. */
  readonly line: number;
}

/** The conference of an occurrence that was read from a file. */
export function instanceOf(occurrence: Occurrence, file: string): CalendarInstance {
  const { event, originalMs, startMs, endMs } = occurrence;
  return {
    conferenceId: conferenceIdOf(event.uid, originalMs),
    seriesId: seriesIdOf(event.uid),
    displayName: event.displayName,
    startMs,
    endMs,
    expectedParticipants: event.expectedParticipants,
    weight: event.expectedParticipants,
    cancelled: event.cancelled,
    file,
    line: event.line,
  };
}
