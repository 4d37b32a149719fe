import { Counter, Gauge } from "prom-client";
import type { Metrics } from "../../common/metrics.ts";
import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import { Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import type { WriteKind, WriteOutcome } from "../store/counted-write.ts";
import { effectiveState } from "../view/conference-entry.ts";
import type { Feed } from "../view/feed.ts";
import type { View } from "../view/view.ts";

/** Counts a batch that was written to the store. */
export type CountWrite = (kind: WriteKind, outcome: WriteOutcome) => void;

/** The share of claims that conflict is `outcome="conflict"` over all outcomes of `kind="claim"`. */
export function countWrites({ registry }: Metrics): CountWrite {
  const writes = new Counter({
    name: "convoke_store_txn_total",
    help: "Batches written to the store, by what they were for and what became of them.",
    labelNames: ["kind", "outcome"],
    registers: [registry],
  });
  return (kind, outcome) => writes.inc({ kind, outcome });
}

/** Figures of the view, read when they are scraped. */
export function addViewMetrics({ registry }: Metrics, view: View, feed: Pick<Feed, "fresh">): void {
  const registers = [registry];
  new Gauge({
    name: "convoke_view_revision",
    help: "The store's revision that the view has reached.",
    registers,
    collect() {
      this.set(Number(view.revision));
    },
  });
  new Gauge({
    name: "convoke_view_stale",
    help: "1 while the view does not follow the store, so that nothing is decided; else 0.",
    registers,
    collect() {
      this.set(feed.fresh ? 0 : 1);
    },
  });
  new Gauge({
    name: "convoke_dispatchers",
    help: "Dispatchers that are registered.",
    registers,
    collect() {
      this.set(view.dispatchers.size);
    },
  });
  new Gauge({
    name: "convoke_conferences",
    help: "Conferences by where they really stand: a void claim or dispatch counts as scheduled.",
    labelNames: ["state"],
    registers,
    collect() {
      setCounts(this, Conference_State, countBy(view.conferences.values(), effectiveState));
    },
  });
  new Gauge({
    name: "convoke_servers",
    help: "Conference servers by state.",
    labelNames: ["state"],
    registers,
    collect() {
      setCounts(
        this,
        Server_State,
        countBy(view.servers.values(), ({ server }) => server.state),
      );
    },
  });
}

function countBy<T>(items: Iterable<T>, key: (item: T) => number): Map<number, number> {
  const counts = new Map<number, number>();
  for (const item of items) counts.set(key(item), (counts.get(key(item)) ?? 0) + 1);
  return counts;
}

/** Every state of the enum has a figure, so that one that nothing is in any more falls to 0. */
function setCounts(
  gauge: Gauge<"state">,
  states: Readonly<Record<string, string | number>>,
  counts: ReadonlyMap<number, number>,
) {
  for (const [name, value] of Object.entries(states)) {
    if (typeof value !== "number" || value === 0) continue;
    gauge.set({ state: name.toLowerCase() }, counts.get(value) ?? 0);
  }
}
