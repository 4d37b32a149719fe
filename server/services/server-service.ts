import type { ServiceImpl } from "@connectrpc/connect";
import { parseAddress } from "../../common/address.ts";
import { toDetection } from "../../common/detection.ts";
import { createValidator, type Validator } from "../../common/rpc/validator.ts";
import type { Server } from "../../proto/gen/convoke/v1/server_pb.js";
import type { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";
import { readBrake, releaseBrake } from "../operations/brake.ts";
import type { OperationContext } from "../operations/context.ts";
import { drainServer } from "../operations/drains.ts";
import { observationsFrom } from "../operations/observations.ts";
import { registerServer, removeServer, requireServer, setCordoned, toServer } from "../operations/servers.ts";
import { LIMITS } from "../settings.ts";
import { readPage, takePage } from "./pages.ts";
import { checkRevision, readId } from "./requests.ts";
import { withStoreStatus } from "./store-status.ts";
import { serveWatch } from "./watches.ts";

export function createServerService(context: OperationContext): ServiceImpl<typeof ServerService> {
  const { view, settings } = context;

  return withStoreStatus({
    async registerServer({ server, restartWithin }, { signal }) {
      const check = createValidator();
      if (server) checkServer(check, server);
      else check.violation("server", "is required");
      const restartWithinMs = check.duration("restart_within", restartWithin, {
        minMs: 0,
        maxMs: LIMITS.maxRestartMs,
        fallbackMs: 0,
      });
      check.done();
      const detection = toDetection(settings.detection);
      if (!server) return { detection };
      return { server: await registerServer(context, server, restartWithinMs, signal), detection };
    },

    async getServer(request) {
      return { server: toServer(view, requireServer(context, readId("server_id", request.serverId))) };
    },

    async listServers(request) {
      const check = createValidator();
      const page = readPage(check, request);
      check.done();
      const { items, nextPageToken } = takePage(view.servers, page);
      return { servers: items.map((entry) => toServer(view, entry)), nextPageToken, revision: view.revision };
    },

    async *watchServers(request, { signal }) {
      const check = createValidator();
      checkRevision(check, request.revision);
      check.done();
      const snapshot = () => ({
        revision: view.revision,
        events: [...view.servers.values()].map(({ server }) => ({ type: EventType.PUT, resource: server })),
      });
      for await (const { revision, events } of serveWatch(
        context,
        view.serverLog,
        request.revision,
        snapshot,
        signal,
      )) {
        yield {
          revision,
          events: events.map(({ type, resource }) => ({
            type,
            server: toServer(view, { server: resource }),
          })),
        };
      }
    },

    async cordonServer(request, { signal }) {
      return { server: await setCordoned(context, readId("server_id", request.serverId), true, signal) };
    },

    async uncordonServer(request, { signal }) {
      return { server: await setCordoned(context, readId("server_id", request.serverId), false, signal) };
    },

    async drainServer(request, { signal }) {
      const check = createValidator();
      check.id("server_id", request.serverId);
      const range = { minMs: 0, maxMs: LIMITS.maxDrainMs, fallbackMs: 0 };
      const deadlineMs = check.duration("deadline", request.deadline, range);
      check.done();
      return { server: await drainServer(context, request.serverId, deadlineMs, signal) };
    },

    async listObservations(request) {
      const check = createValidator();
      check.optionalId("server_id", request.serverId);
      const page = readPage(check, request);
      check.done();
      const { items, nextPageToken } = takePage(observationsFrom(context, request.serverId), page);
      return { observations: items, nextPageToken, revision: view.revision };
    },

    async getDetection() {
      const { detection, moveBudget } = settings;
      return { detection: toDetection(detection), brake: readBrake(context), moveBudget };
    },

    async releaseBrake(request, { signal }) {
      const check = createValidator();
      const durationMs = check.duration("duration", request.duration, {
        minMs: LIMITS.minReleaseMs,
        maxMs: LIMITS.maxReleaseMs,
        fallbackMs: LIMITS.defaultReleaseMs,
      });
      check.done();
      return { brake: await releaseBrake(context, durationMs, signal) };
    },

    async removeServer(request, { signal }) {
      await removeServer(context, readId("server_id", request.serverId), signal);
      return {};
    },
  });
}

function checkServer(check: Validator, server: Server) {
  check.id("server.server_id", server.serverId);
  try {
    if (parseAddress(server.agentAddress).port === 0)
      check.violation("server.agent_address", "must name a port");
  } catch {
    check.violation("server.agent_address", "must be host:port");
  }
  check.integer("server.capacity", server.capacity, { min: 1, max: 1_000_000_000 });
  check.text("server.region", server.region, 63);
  check.labels("server.labels", server.labels);
  check.text("server.driver", server.driver, 63);
  check.text("server.instance_id", server.instanceId, 128);
  if (server.instanceId === "")
    check.violation("server.instance_id", "is required: name this life of the server");
}
