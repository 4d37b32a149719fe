import { type Property, parameter, textValue } from "./property.ts";

/** Who is booked but does not take part. */
const NOT_PEOPLE = new Set(["ROOM", "RESOURCE"]);

/**
 * How many people an event expects: its attendees that have not declined, and its organizer unless he has declined; each
 * address once; at least 1.
 */
export function countParticipants(attendees: readonly Property[], organizer: Property | undefined): number {
  const expected = new Set<string>();
  const declined = new Set<string>();
  for (const attendee of attendees) {
    if (NOT_PEOPLE.has(parameter(attendee, "cutype")?.toUpperCase() ?? "")) continue;
    const address = textValue(attendee).trim().toLowerCase();
    if (parameter(attendee, "partstat")?.toUpperCase() === "DECLINED") declined.add(address);
    else expected.add(address);
  }
  const organizerAddress = organizer && textValue(organizer).trim().toLowerCase();
  if (organizerAddress && !declined.has(organizerAddress)) expected.add(organizerAddress);
  return Math.max(1, expected.size);
}
