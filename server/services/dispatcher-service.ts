import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import { toDetection } from "../../common/detection.ts";
import { createValidator, type Validator } from "../../common/rpc/validator.ts";
import { type Duration, durationFromMs } from "../../common/time.ts";
import {
  CommitResultSchema,
  type DispatcherService,
  type NewDispatch,
  type Observation,
  RejectionSchema,
  type TaskRelease,
} from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { EventType } from "../../proto/gen/convoke/v1/watch_pb.js";
import { isRoundCurrent, roundAccounts } from "../dispatch/round.ts";
import { createClaims } from "../operations/claims.ts";
import { createCommits } from "../operations/commits.ts";
import type { OperationContext } from "../operations/context.ts";
import { reportObservations } from "../operations/observations.ts";
import { deregister, heartbeat, register, requireRegistered } from "../operations/registrations.ts";
import { releaseTasks } from "../operations/releases.ts";
import { LIMITS } from "../settings.ts";
import { readPage, takePage } from "./pages.ts";
import { checkRevision } from "./requests.ts";
import { withStoreStatus } from "./store-status.ts";
import { serveWatch } from "./watches.ts";

export function createDispatcherService(context: OperationContext): ServiceImpl<typeof DispatcherService> {
  const { view, clock, settings } = context;
  const claims = createClaims(context);
  const commits = createCommits(context);

  return withStoreStatus({
    async registerDispatcher(request, { signal }) {
      const check = createValidator();
      check.id("dispatcher_id", request.dispatcherId);
      const ttlMs = check.duration("ttl", request.ttl, {
        minMs: LIMITS.minTtlMs,
        maxMs: LIMITS.maxTtlMs,
        fallbackMs: LIMITS.defaultTtlMs,
      });
      const weight = check.integer("weight", request.weight, { min: 1, max: 1000, fallback: 1 });
      check.labels("labels", request.labels);
      check.done();
      const { dispatcherId, labels } = request;
      const registered = await register(context, { dispatcherId, ttlMs, weight, labels }, signal);
      return {
        dispatcher: registered.dispatcher,
        // Three heartbeats a time to live: two may be lost.
        heartbeatInterval: durationFromMs(Math.floor(registered.ttlMs / 3)),
        detection: toDetection(settings.detection),
      };
    },

    async heartbeat(request, { signal }) {
      readEpoch(request);
      const { expireTime } = await heartbeat(context, request.dispatcherId, request.epoch, signal);
      return {
        expireTime,
        dispatcherCount: view.dispatchers.size,
        registryRevision: view.registryRevision,
      };
    },

    async deregisterDispatcher(request, { signal }) {
      readEpoch(request);
      await deregister(context, request.dispatcherId, request.epoch, signal);
      return {};
    },

    async listDispatchers(request) {
      const check = createValidator();
      const page = readPage(check, request);
      check.done();
      const { items, nextPageToken } = takePage(view.dispatchers, page);
      return {
        dispatchers: items.map(({ dispatcher }) => dispatcher),
        nextPageToken,
        revision: view.revision,
      };
    },

    async *watchDispatchers(request, { signal }) {
      const check = createValidator();
      checkRevision(check, request.revision);
      check.done();
      const snapshot = () => ({
        revision: view.revision,
        events: [...view.dispatchers.values()].map(({ dispatcher }) => ({
          type: EventType.PUT,
          resource: dispatcher,
        })),
      });
      for await (const { revision, events } of serveWatch(
        context,
        view.dispatcherLog,
        request.revision,
        snapshot,
        signal,
      )) {
        yield { revision, events: events.map(({ type, resource }) => ({ type, dispatcher: resource })) };
      }
    },

    async queryTotal(request) {
      const check = createValidator();
      check.id("dispatcher_id", request.dispatcherId);
      const windowMs = readWindow(check, request.window);
      check.done();
      requireRegistered(context, request.dispatcherId);
      const { members, total } = roundAccounts(view, clock.wallMs(), windowMs);
      const rank = members.findIndex(({ dispatcherId }) => dispatcherId === request.dispatcherId);
      return {
        total,
        revision: view.revision,
        dispatcherCount: members.length,
        rank,
        share: members[rank]?.share ?? 0,
        taken: members[rank]?.taken ?? 0,
        round: isRoundCurrent(view) ? (view.round?.revision ?? 0n) : 0n,
      };
    },

    async *fetchTasks(request, { signal }) {
      const check = createValidator();
      check.id("dispatcher_id", request.dispatcherId);
      check.epoch("epoch", request.epoch);
      const windowMs = readWindow(check, request.window);
      const maxTasks = check.integer("max_tasks", request.maxTasks, {
        min: 0,
        max: LIMITS.maxTasks,
        fallback: LIMITS.maxTasks,
      });
      const waitMs = check.duration("wait", request.wait, {
        minMs: 0,
        maxMs: LIMITS.maxFetchWaitMs,
        fallbackMs: 0,
      });
      check.done();
      const { dispatcherId, epoch } = request;
      for await (const tasks of claims.fetch({ dispatcherId, epoch, windowMs, maxTasks, waitMs }, signal)) {
        yield { tasks };
      }
    },

    async commitDispatches(request, { signal }) {
      const check = checkEpoch(request);
      check.size("dispatches", request.dispatches, { min: 1, max: LIMITS.maxBatch });
      check.unique("dispatches", request.dispatches, ({ conferenceId }) => conferenceId);
      for (const [index, dispatch] of request.dispatches.entries()) {
        checkDispatch(check, `dispatches[${index}]`, dispatch);
      }
      check.done();
      const { dispatcherId, epoch, dispatches } = request;
      const outcomes = await commits.commit(dispatcherId, epoch, dispatches, signal);
      return {
        revision: view.revision,
        results: outcomes.map((outcome, index) =>
          create(CommitResultSchema, {
            conferenceId: dispatches[index]?.conferenceId ?? "",
            outcome:
              outcome.kind === "dispatch"
                ? { case: "dispatch", value: outcome.dispatch }
                : { case: "rejection", value: create(RejectionSchema, outcome.refusal) },
          }),
        ),
      };
    },

    async releaseTasks(request, { signal }) {
      const check = checkEpoch(request);
      check.size("releases", request.releases, { min: 1, max: LIMITS.maxBatch });
      check.unique("releases", request.releases, ({ conferenceId }) => conferenceId);
      for (const [index, release] of request.releases.entries()) {
        checkRelease(check, `releases[${index}]`, release);
      }
      check.done();
      const { dispatcherId, epoch, releases } = request;
      const refusals = await releaseTasks(context, dispatcherId, epoch, releases, signal);
      return {
        results: refusals.map((rejection, index) => ({
          conferenceId: releases[index]?.conferenceId ?? "",
          ...(rejection ? { rejection } : {}),
        })),
      };
    },

    async reportObservations(request, { signal }) {
      const check = checkEpoch(request);
      check.size("observations", request.observations, { min: 0, max: LIMITS.maxBatch });
      check.unique("observations", request.observations, ({ serverId }) => serverId);
      for (const [index, observation] of request.observations.entries()) {
        checkObservation(check, `observations[${index}]`, observation);
      }
      check.text("withdraw_reason", request.withdrawReason, 256);
      check.done();
      await reportObservations(context, request, signal);
      return {};
    },
  });
}

function checkEpoch(request: { dispatcherId: string; epoch: bigint }): Validator {
  const check = createValidator();
  check.id("dispatcher_id", request.dispatcherId);
  check.epoch("epoch", request.epoch);
  return check;
}

function readEpoch(request: { dispatcherId: string; epoch: bigint }): void {
  checkEpoch(request).done();
}

function readWindow(check: Validator, window: Duration | undefined): number {
  return check.duration("window", window, {
    minMs: 0,
    maxMs: LIMITS.maxWindowMs,
    fallbackMs: LIMITS.defaultWindowMs,
  });
}

function checkDispatch(check: Validator, field: string, dispatch: NewDispatch) {
  check.id(`${field}.conference_id`, dispatch.conferenceId);
  check.epoch(`${field}.dispatch_epoch`, dispatch.dispatchEpoch);
  check.id(`${field}.server_id`, dispatch.serverId);
  check.epoch(`${field}.incarnation`, dispatch.incarnation);
  check.text(`${field}.address`, dispatch.address, 2048);
  if (!URL.canParse(dispatch.address)) check.violation(`${field}.address`, "must be a URL");
}

function checkObservation(check: Validator, field: string, observation: Observation) {
  check.id(`${field}.server_id`, observation.serverId);
  check.epoch(`${field}.incarnation`, observation.incarnation);
  check.integer(`${field}.verdict`, observation.verdict, { min: 1, max: 3 });
  check.integer(`${field}.in_a_row`, observation.inARow, { min: 1, max: 1000 });
  check.text(`${field}.detail`, observation.detail, 256);
}

function checkRelease(check: Validator, field: string, release: TaskRelease) {
  check.id(`${field}.conference_id`, release.conferenceId);
  check.epoch(`${field}.dispatch_epoch`, release.dispatchEpoch);
  check.integer(`${field}.cause`, release.cause, { min: 1, max: 3 });
  check.text(`${field}.message`, release.message, 1024);
}
