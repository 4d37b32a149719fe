/** An opaque page token that stands for the last conference of a page. */
export function encodePageToken(lastConferenceId: string): string {
  return Buffer.from(`after:${lastConferenceId}`).toString("base64url");
}

/** The last conference of the page before; empty for the first page; undefined when the token is not one of ours. */
export function decodePageToken(token: string): string | undefined {
  if (token === "") return "";
  const text = Buffer.from(token, "base64url").toString();
  const isOurs = text.startsWith("after:") && encodePageToken(text.slice("after:".length)) === token;
  return isOurs ? text.slice("after:".length) : undefined;
}
