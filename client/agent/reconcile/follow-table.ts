import type { Client } from "@connectrpc/connect";
import { createBackoff } from "../../../common/backoff.ts";
import { type Clock, sleep } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logging.ts";
import type { ConferenceService } from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { watchDispatches } from "../../watch.ts";
import type { TablePicture } from "./table-picture.ts";

export interface FollowTableOptions {
  readonly conferences: Pick<Client<typeof ConferenceService>, "watchDispatches">;
  readonly picture: TablePicture;
  readonly logger: Logger;
  readonly clock: Clock;
  /** Called when the control plane answers, for the first time or again. */
  readonly onConnected?: () => void;
  /** Called with each sign of life of the table, before it is applied. */
  readonly onHeard?: () => void;
}

/** Feeds the picture from the dispatch table's watch, and begins anew whenever that ends, until the signal aborts. */
export async function followTable(options: FollowTableOptions, signal: AbortSignal): Promise<void> {
  const { conferences, picture, logger, clock, onConnected, onHeard } = options;
  const backoff = createBackoff({ initialMs: 200, maxMs: 5_000 });
  let connected = false;
  let away = false;
  const onInterrupted = (err: unknown) => {
    picture.interrupted();
    logger[away ? "debug" : "warn"]({ err }, "dispatch table cannot be followed; rooms go on");
    connected = false;
    away = true;
  };
  while (!signal.aborted) {
    try {
      const revision = picture.begin();
      for await (const update of watchDispatches(conferences, { signal, revision, clock, onInterrupted })) {
        if (update.kind === "restart") {
          logger.info({ err: update.cause }, "dispatch table is read again from its beginning");
          picture.startOver();
          continue;
        }
        if (!connected) {
          logger[away ? "info" : "debug"]({ revision: update.revision }, "following the dispatch table");
          connected = true;
          away = false;
          backoff.reset();
          onConnected?.();
        }
        onHeard?.();
        picture.apply(update);
      }
    } catch (err) {
      if (signal.aborted) return;
      onInterrupted(err);
    }
    await sleep(clock, backoff.nextMs(), signal).catch(() => {});
  }
}
