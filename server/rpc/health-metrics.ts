import { Counter, Gauge } from "prom-client";
import type { Metrics } from "../../common/metrics.ts";
import type { Brake } from "../../proto/gen/convoke/v1/detection_pb.js";
import { Server_Health_Cause, Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import type { CountVerdict } from "../operations/verdicts.ts";
import type { View } from "../view/view.ts";

/** Counts the verdicts that this replica wrote: over all replicas, each verdict once. */
export function countVerdicts({ registry }: Metrics): CountVerdict {
  const verdicts = new Counter({
    name: "convoke_server_verdicts_total",
    help: "Verdicts on conference servers that this replica wrote, by the state and the cause they were given.",
    labelNames: ["state", "cause"],
    registers: [registry],
  });
  return (state, cause) =>
    verdicts.inc({
      state: Server_State[state].toLowerCase(),
      cause: Server_Health_Cause[cause].toLowerCase(),
    });
}

/** Figures of servers and of the brake, read when they are scraped. */
export function addHealthMetrics({ registry }: Metrics, view: View, brake: () => Brake): void {
  const registers = [registry];
  new Gauge({
    name: "convoke_server_state",
    help: "1 for the state that each conference server is in, with why.",
    labelNames: ["server", "state", "cause"],
    registers,
    collect() {
      this.reset();
      for (const { server } of view.servers.values()) {
        const cause = server.health?.cause ?? Server_Health_Cause.UNSPECIFIED;
        this.set(
          {
            server: server.serverId,
            state: Server_State[server.state].toLowerCase(),
            cause: Server_Health_Cause[cause].toLowerCase(),
          },
          1,
        );
      }
    },
  });
  const gauge = (name: string, help: string, read: (brake: Brake) => number) =>
    new Gauge({
      name: `convoke_brake_${name}`,
      help,
      registers,
      collect() {
        this.set(read(brake()));
      },
    });
  gauge("engaged", "1 while the brake keeps servers from being declared DOWN; else 0.", ({ engaged }) =>
    engaged ? 1 : 0,
  );
  gauge(
    "held_servers",
    "Servers that the brake keeps from being declared DOWN.",
    (now) => now.heldServerIds.length,
  );
  gauge(
    "failing_servers",
    "Servers that fail now, or were declared DOWN within the window of the brake.",
    (now) => now.failingServers,
  );
  gauge(
    "allowed_servers",
    "How many servers may fail before the brake engages.",
    (now) => now.allowedServers,
  );
}
