import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { createBackoff } from "../../common/backoff.ts";
import { type Clock, sleep } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";
import type { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import type { ListedServer, ServerTable } from "./server-table.ts";

export interface FollowServersOptions {
  readonly table: ServerTable;
  readonly client: Client<typeof ServerService>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The most that ListServers gives. */
const PAGE_SIZE = 1_000;

const LIST_TIMEOUT_MS = 5_000;

/**
 * Keeps the table as the control plane has it until the signal aborts: lists once, then watches and resumes from the last
 * revision seen, and lists again when that is no longer kept or the watch was ended for being slow.
 */
export async function followServers(options: FollowServersOptions, signal: AbortSignal): Promise<void> {
  const { table, client, clock, logger } = options;
  const backoff = createBackoff();
  let revision: bigint | undefined;
  while (!signal.aborted) {
    try {
      revision ??= await listInto(table, client, signal, true);
      for await (const message of client.watchServers({ revision }, { signal })) {
        for (const event of message.events) table.apply(event, message.revision);
        revision = message.revision;
        backoff.reset();
      }
      logger.debug("watch of servers ended");
    } catch (err) {
      if (signal.aborted) return;
      if (isGap(err)) revision = undefined;
      logger.warn({ err, resync: revision === undefined }, "watch of servers failed");
    }
    await sleep(clock, backoff.nextMs(), signal).catch(() => {});
  }
}

/**
 * Lists all servers into the table, with the units reserved now, which no watch tells.
 * @throws {ConnectError} when a page cannot be read; the table is then as it was
 */
export async function refreshServers(
  table: ServerTable,
  client: Client<typeof ServerService>,
  signal: AbortSignal,
): Promise<void> {
  await listInto(table, client, signal, false);
}

/** Gives the revision from which to watch: that of the first page, so that no change between pages is missed. */
async function listInto(
  table: ServerTable,
  client: Client<typeof ServerService>,
  signal: AbortSignal,
  resync: boolean,
): Promise<bigint> {
  const servers: ListedServer[] = [];
  let firstRevision: bigint | undefined;
  let pageToken = "";
  do {
    const page = await client.listServers(
      { pageSize: PAGE_SIZE, pageToken },
      { signal, timeoutMs: LIST_TIMEOUT_MS },
    );
    firstRevision ??= page.revision;
    for (const server of page.servers) servers.push({ server, revision: page.revision });
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  table.replaceAll(servers, { revision: firstRevision, resync });
  return firstRevision;
}

function isGap(error: unknown): boolean {
  return (
    error instanceof ConnectError && (error.code === Code.OutOfRange || error.code === Code.ResourceExhausted)
  );
}
