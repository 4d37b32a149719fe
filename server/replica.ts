import type { Clock } from "../common/clock.ts";
import type { Logger } from "../common/logging.ts";
import { createMetrics, type Metrics } from "../common/metrics.ts";
import { type MountedService, mounted } from "../common/rpc/grpc-adapter.ts";
import { instrumented } from "../common/rpc/instrument.ts";
import { runTasks } from "../common/run-tasks.ts";
import { ConferenceService } from "../proto/gen/convoke/v1/conference_service_pb.js";
import { DispatcherService } from "../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ServerService } from "../proto/gen/convoke/v1/server_service_pb.js";
import { readBrake } from "./operations/brake.ts";
import type { OperationContext } from "./operations/context.ts";
import { runLifecycle, runRoundKeeper } from "./operations/lifecycle.ts";
import { createVerdicts, runVerdicts } from "./operations/verdicts.ts";
import { addHealthMetrics, countVerdicts } from "./rpc/health-metrics.ts";
import { reachingKnown } from "./rpc/known-revision.ts";
import { addViewMetrics, countWrites } from "./rpc/metrics.ts";
import { createConferenceService } from "./services/conference-service.ts";
import { createDispatcherService } from "./services/dispatcher-service.ts";
import { createServerService } from "./services/server-service.ts";
import { DEFAULT_SETTINGS, type Settings } from "./settings.ts";
import { createCountedWrite } from "./store/counted-write.ts";
import { createKeys } from "./store/keys.ts";
import type { Store } from "./store/store.ts";
import { createFeed } from "./view/feed.ts";
import { View } from "./view/view.ts";

/** One control-plane process without its ports: the services over a store. */
export interface Replica {
  readonly services: readonly MountedService[];
  /** What `/metrics` shows. */
  readonly metrics: Metrics;
  /** Whether the view follows the store. */
  readonly fresh: boolean;
  /** Resolves once the first complete view stands. */
  ready(signal: AbortSignal): Promise<void>;
  /** Follows the store and does what time demands, until the signal aborts. */
  run(signal: AbortSignal): Promise<void>;
}

export interface ReplicaOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Under which all keys lie. Default `convoke/`. */
  readonly prefix?: string;
  readonly settings?: Partial<Settings>;
}

export function createReplica({ store, clock, logger, prefix, settings }: ReplicaOptions): Replica {
  const keys = createKeys(prefix);
  const view = new View(keys, clock);
  const feed = createFeed({ store, keys, view, clock, logger });
  const metrics = createMetrics();
  addViewMetrics(metrics, view, feed);
  const context: OperationContext = {
    store,
    write: createCountedWrite(store, countWrites(metrics)),
    keys,
    view,
    feed,
    clock,
    logger,
    settings: { ...DEFAULT_SETTINGS, ...settings },
  };
  addHealthMetrics(metrics, view, () => readBrake(context));
  const verdicts = createVerdicts(context, countVerdicts(metrics));
  const services = [
    mounted(DispatcherService, createDispatcherService(context)),
    mounted(ConferenceService, createConferenceService(context)),
    mounted(ServerService, createServerService(context)),
  ];
  return {
    services: services.map((service) =>
      instrumented(reachingKnown(service, context), logger, clock, metrics.callServed),
    ),
    metrics,
    get fresh() {
      return feed.fresh;
    },
    ready: (signal) => feed.ready(signal),
    run: (signal) =>
      runTasks(
        signal,
        (inner) => feed.run(inner),
        (inner) => runLifecycle(context, inner),
        (inner) => runRoundKeeper(context, inner),
        (inner) => runVerdicts(context, verdicts, inner),
      ),
  };
}
