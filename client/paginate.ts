/** What every list call answers with, besides its items. */
export interface Page {
  /** For the next page; empty on the last. */
  readonly nextPageToken: string;
}

/**
 * Goes through all pages of a list call, holding one page at a time. The next page is asked for when the consumer has
 * taken the last item of the one before; leaving the loop early asks for nothing more.
 *
 * ```ts
 * const all = paginate((pageToken) => client.conferences.listConferences({ pageToken }), (page) => page.conferences);
 * for await (const conference of all) console.log(conference.conferenceId);
 * ```
 *
 * @throws whatever the call throws; Error when the server answers with the token it was given
 */
export async function* paginate<P extends Page, T>(
  list: (pageToken: string) => Promise<P>,
  itemsOf: (page: P) => Iterable<T>,
): AsyncGenerator<T, void, undefined> {
  let pageToken = "";
  for (;;) {
    const page = await list(pageToken);
    yield* itemsOf(page);
    if (page.nextPageToken === "") return;
    if (page.nextPageToken === pageToken) throw new Error("the server sent the same page token twice");
    pageToken = page.nextPageToken;
  }
}
