import type { DescMethod } from "@bufbuild/protobuf";
import {
  type BatchCreateConferencesRequest,
  BatchCreateConferencesRequest_ConflictPolicy,
  ConferenceService,
  type CreateConferenceRequest,
} from "../../proto/gen/convoke/v1/conference_service_pb.js";
import { DispatcherService } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { ServerService } from "../../proto/gen/convoke/v1/server_service_pb.js";

type Rule = true | ((request: never) => boolean);

const { method: dispatchers } = DispatcherService;
const { method: conferences } = ConferenceService;
const { method: servers } = ServerService;

/**
 * The calls that may be sent again, through another replica, when it is not known whether the first was carried out.
 * All others are sent again only when they were certainly not carried out:
 *
 * - RegisterDispatcher: a first one that arrives late would throw out the second's registration.
 * - ReportObservations: an older report must not come after a newer one.
 * - UpdateConference: with an etag the second would fail on the first's success; without, it may undo another's change.
 * - RequeueConference: the second fails when the first succeeded.
 */
const REPEATABLE: ReadonlyMap<DescMethod, Rule> = new Map<DescMethod, Rule>([
  // They change nothing.
  [dispatchers.listDispatchers, true],
  [dispatchers.watchDispatchers, true],
  [dispatchers.queryTotal, true],
  [conferences.getConference, true],
  [conferences.listConferences, true],
  [conferences.getDispatch, true],
  [conferences.listDispatches, true],
  [conferences.watchDispatches, true],
  [servers.getServer, true],
  [servers.listServers, true],
  [servers.watchServers, true],
  [servers.listObservations, true],
  [servers.getDetection, true],
  // It renews the lease of one epoch, for the same time.
  [dispatchers.heartbeat, true],
  // It ends one epoch, and succeeds when that has ended.
  [dispatchers.deregisterDispatcher, true],
  // It begins with what the epoch holds, so what the first claimed is told by the second.
  [dispatchers.fetchTasks, true],
  // Committing what is committed the same way succeeds.
  [dispatchers.commitDispatches, true],
  // Each release names its claim; the second is refused with CLAIM_LOST, which says that the claim is gone.
  [dispatchers.releaseTasks, true],
  // The same request_id gives the conference that was made.
  [conferences.createConference, ({ requestId }: CreateConferenceRequest) => requestId !== ""],
  // So for each of a batch; and updating to what is given twice leaves it as given.
  [
    conferences.batchCreateConferences,
    ({ conflictPolicy, requests }: BatchCreateConferencesRequest) =>
      conflictPolicy === BatchCreateConferencesRequest_ConflictPolicy.UPDATE ||
      requests.every(({ requestId }) => requestId !== ""),
  ],
  // The contract: cancelling twice, ending twice succeeds.
  [conferences.cancelConference, true],
  [conferences.endConference, true],
  // Facts as they are; telling them again changes nothing.
  [servers.registerServer, true],
  // They set what is asked for, whatever it was.
  [servers.cordonServer, true],
  [servers.uncordonServer, true],
  // The later call only begins its time a little later.
  [servers.drainServer, true],
  [servers.releaseBrake, true],
  // Succeeds when the server is not known.
  [servers.removeServer, true],
]);

/** Whether the call may be carried out twice without harm, and answers the second time what it would have the first. */
export function isRepeatable(method: DescMethod, request: unknown): boolean {
  const rule = REPEATABLE.get(method);
  return typeof rule === "function" ? rule(request as never) : rule === true;
}

/** Calls that write several times: when one says that nothing was written, that holds for its last write only. */
export function writesInParts(method: DescMethod): boolean {
  return method === conferences.batchCreateConferences;
}
