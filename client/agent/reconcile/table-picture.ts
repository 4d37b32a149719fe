import { timestampMs } from "../../../common/time.ts";
import type { DispatchEvent } from "../../../proto/gen/convoke/v1/conference_service_pb.js";
import { EventType } from "../../../proto/gen/convoke/v1/watch_pb.js";
import type { HostedConference, HostedConferences } from "../hosted.ts";
import { judgeRow } from "./judge-row.ts";

/**
 * What the dispatch table has said about the conferences hosted here. It is fed the updates of a watch and decides what
 * must stop:
 *
 * | state     | what comes             | becomes   | and                                                           |
 * | --------- | ---------------------- | --------- | ------------------------------------------------------------- |
 * | any       | `startOver`            | snapshot  | nothing seen yet; what was confirmed stays so                 |
 * | snapshot  | `begin` (a new watch)  | snapshot  | nothing seen yet                                              |
 * | snapshot  | an update with events  | snapshot  | each event is judged by itself; its conference counts as seen |
 * | snapshot  | one without events     | following | what was once confirmed and has not been seen is stopped      |
 * | following | any update             | following | each event is judged by itself                                |
 *
 * A snapshot may come from a replica that lags. It says nothing about what was started after its revision, and nothing
 * about what a later revision has confirmed.
 */
export interface TablePicture {
  /** A new watch begins. Returns the revision to watch from: 0 while there is no complete snapshot. */
  begin(): bigint;
  /** The next update is the beginning of the whole table. */
  startOver(): void;
  /** The watch is broken and will go on where it was. */
  interrupted(): void;
  apply(update: { readonly revision: bigint; readonly events: readonly DispatchEvent[] }): void;
  /** The revision that the control plane, as reached now, has told of; 0 while that is not known. */
  readonly reachedRevision: bigint;
  /** Whether the table has ever named this server for the conference's epoch. */
  isConfirmed(conference: HostedConference): boolean;
}

export interface TablePictureOptions {
  readonly serverId: string;
  readonly hosted: Pick<HostedConferences, "get" | "all" | "fence" | "update">;
  /** Called for what must stop, now or after a while; more than once for the same conference. */
  readonly stop: (conference: HostedConference, cause: string, lingers: boolean) => void;
  /** Called when the table says that a conference hosted here is void with all others of this server. */
  readonly onLost: (cause: string) => void;
}

export function createTablePicture(options: TablePictureOptions): TablePicture {
  const { serverId, hosted, stop, onLost } = options;
  type State = { kind: "snapshot"; seen: Set<string> } | { kind: "following"; revision: bigint };
  let state: State = { kind: "snapshot", seen: new Set() };
  let reachedRevision = 0n;
  /** The latest revision that confirmed a conference; a higher epoch of it is another object, not confirmed yet. */
  const confirmedAt = new WeakMap<HostedConference, bigint>();

  const confirm = (conference: HostedConference, revision: bigint) => {
    const known = confirmedAt.get(conference) ?? 0n;
    confirmedAt.set(conference, known > revision ? known : revision);
  };

  const startOver = () => {
    state = { kind: "snapshot", seen: new Set() };
    reachedRevision = 0n;
  };

  function completeSnapshot(seen: ReadonlySet<string>, revision: bigint) {
    for (const conference of hosted.all()) {
      const confirmed = confirmedAt.get(conference);
      if (confirmed === undefined) continue;
      if (seen.has(conference.conferenceId)) confirm(conference, revision);
      else if (conference.dispatchEpoch <= revision && confirmed <= revision)
        stop(conference, "missing from the dispatch table", false);
    }
  }

  return {
    begin() {
      if (state.kind === "following") return state.revision;
      startOver();
      return 0n;
    },
    startOver,
    interrupted() {
      reachedRevision = 0n;
    },
    apply({ revision, events }) {
      for (const event of events) {
        const { type, dispatch } = event;
        // A dispatcher that was paused may still send a start for what others have placed meanwhile.
        const isHere = type === EventType.PUT && dispatch?.serverId === serverId;
        if (dispatch && !isHere) hosted.fence(dispatch.conferenceId, dispatch.epoch);
        const conference = hosted.get(event.dispatch?.conferenceId ?? "");
        if (!conference) continue;
        if (state.kind === "snapshot") state.seen.add(conference.conferenceId);
        const verdict = judgeRow(event, conference.dispatchEpoch, serverId);
        if (verdict.kind === "stop") stop(conference, verdict.cause, verdict.lingers);
        if (verdict.kind === "lost") onLost(verdict.cause);
        if (verdict.kind !== "confirmed") continue;
        confirm(conference, revision);
        const { epoch, validUntil, weight } = dispatch ?? {};
        // A control plane of before tells no weight.
        if (epoch && validUntil)
          hosted.update(conference.conferenceId, epoch, {
            validUntilMs: timestampMs(validUntil),
            weight: weight || conference.weight,
          });
      }
      if (state.kind === "snapshot" && events.length > 0) return;
      if (state.kind === "snapshot") completeSnapshot(state.seen, revision);
      state = { kind: "following", revision };
      reachedRevision = revision;
    },
    get reachedRevision() {
      return reachedRevision;
    },
    isConfirmed: (conference) => confirmedAt.has(conference),
  };
}
