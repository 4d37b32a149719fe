import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { createBackoff } from "../../../common/backoff.ts";
import { type Clock, sleep } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logging.ts";
import { createPulse } from "../../../common/pulse.ts";
import type { DispatcherService } from "../../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import type { Epoch } from "../epoch.ts";
import type { ReportedVote, Written } from "./observation-report.ts";

/** Brings votes to the control plane under one epoch, and nothing but what it does not have. */
export interface Reporter {
  /** What the control plane has of a server, or may have. */
  written(serverId: string): Written;
  /** Servers of which anything is written. */
  writtenServers(): Iterable<string>;
  /** Something may be due for this server: it is looked at when the next report is made. */
  touch(serverId: string): void;
  /** The withdrawal may have changed. */
  withdrawalChanged(): void;
  /** Reports until the signal aborts or the epoch ends. */
  run(signal: AbortSignal): Promise<void>;
}

export interface ReporterOptions {
  readonly dispatcherId: string;
  readonly epoch: Epoch;
  readonly client: Pick<Client<typeof DispatcherService>, "reportObservations">;
  /** What is to be reported of a server now; undefined when nothing is. */
  readonly due: (serverId: string) => ReportedVote | undefined;
  /** Why the votes do not count now; undefined when they do. */
  readonly withdrawal: () => string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  /** In [0, 1); Math.random by default. */
  readonly random?: () => number;
}

/** The contract's limit. */
const BATCH_SIZE = 1_000;

/** Servers that fail together go into one report; small against a probe's retry. */
const GATHER_MS = 5;

const REPORT_TIMEOUT_MS = 2_000;

/** A vote that comes seconds late holds up a failover. */
const RETRY = { initialMs: 100, maxMs: 2_000 };

/**
 * A report whose reply was lost may be carried out late, after a newer one, for as long as a write of the control plane
 * may take. What it held is told once more when that time is over.
 */
const LATE_MS = 10_000;

/** The contract's limit of `withdraw_reason`, in bytes; ours are ASCII. */
const MAX_REASON_BYTES = 256;

export function createReporter(options: ReporterOptions): Reporter {
  const { dispatcherId, epoch, client, due, withdrawal, clock, logger, random = Math.random } = options;
  const writtenByServer = new Map<string, Exclude<Written, undefined>>();
  const touched = new Set<string>();
  const pulse = createPulse(clock);
  const backoff = createBackoff({ ...RETRY, random });
  /** The withdrawal that the control plane has; null when that is unknown. A registration begins without one. */
  let told: string | undefined | null;
  let woken = false;
  /** Servers of reports whose outcome is not known, to be told again at `repeatAtMs`. */
  const doubtful = new Set<string>();
  let repeatAtMs = Number.POSITIVE_INFINITY;

  function wake() {
    woken = true;
    pulse.notify();
  }

  function untilRepeatMs() {
    return repeatAtMs === Number.POSITIVE_INFINITY
      ? undefined
      : Math.max(0, repeatAtMs - clock.monotonicMs());
  }

  function repeatDoubtful() {
    if (clock.monotonicMs() < repeatAtMs) return;
    repeatAtMs = Number.POSITIVE_INFINITY;
    told = null;
    for (const serverId of doubtful) {
      writtenByServer.set(serverId, "unknown");
      touched.add(serverId);
    }
    doubtful.clear();
  }

  /** Sends one batch; gives whether there may be more. */
  async function reportOnce(signal: AbortSignal): Promise<boolean> {
    const votes = new Map<string, ReportedVote>();
    for (const serverId of touched) {
      if (votes.size === BATCH_SIZE) break;
      touched.delete(serverId);
      const vote = due(serverId);
      if (vote) votes.set(serverId, vote);
    }
    const reason = withdrawal();
    if (votes.size === 0 && reason === told) return false;
    for (const serverId of votes.keys()) writtenByServer.set(serverId, "unknown");
    told = null;
    try {
      epoch.assertValid();
      await client.reportObservations(
        {
          dispatcherId,
          epoch: epoch.epoch,
          observations: [...votes].map(([serverId, { incarnation, verdict, inARow, detail }]) => ({
            serverId,
            incarnation,
            verdict,
            inARow,
            detail,
          })),
          withdrawn: reason !== undefined,
          withdrawReason: reason?.slice(0, MAX_REASON_BYTES) ?? "",
        },
        { signal, timeoutMs: REPORT_TIMEOUT_MS },
      );
    } catch (err) {
      // Not known to have arrived: it is sent again as it is then, unless the request itself is at fault.
      if (!(err instanceof ConnectError && err.code === Code.InvalidArgument)) {
        for (const serverId of votes.keys()) {
          touched.add(serverId);
          doubtful.add(serverId);
        }
        repeatAtMs = clock.monotonicMs() + LATE_MS;
      }
      throw err;
    }
    for (const [serverId, vote] of votes) writtenByServer.set(serverId, vote);
    told = reason;
    logger.debug({ votes: votes.size, withdrawn: reason !== undefined }, "observations reported");
    return touched.size > 0;
  }

  return {
    written: (serverId) => writtenByServer.get(serverId),
    writtenServers: () => writtenByServer.keys(),
    touch(serverId) {
      touched.add(serverId);
      wake();
    },
    withdrawalChanged: wake,
    async run(stop) {
      const signal = AbortSignal.any([stop, epoch.signal]);
      let failed = false;
      while (!signal.aborted) {
        if (!woken) await pulse.next(signal, untilRepeatMs());
        repeatDoubtful();
        await sleep(clock, GATHER_MS, signal).catch(() => {});
        if (signal.aborted) return;
        woken = false;
        try {
          while (await reportOnce(signal));
          if (failed) logger.info("observations are reported again");
          failed = false;
          backoff.reset();
        } catch (err) {
          if (signal.aborted || epoch.endedBy(err)) return;
          // Said once: the control plane may be away for long.
          logger[failed ? "debug" : "warn"]({ err }, "could not report observations; they are sent again");
          failed = true;
          woken = true;
          await sleep(clock, backoff.nextMs(), signal).catch(() => {});
        }
      }
    },
  };
}
