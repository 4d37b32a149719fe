/** What people call a conference on the command line; the first two are the singular and the plural. */
export const CONFERENCE_WORDS = ["conference", "conferences", "conf"] as const;
/** What people call a conference server on the command line. */
export const SERVER_WORDS = ["server", "servers"] as const;
