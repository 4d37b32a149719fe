import { Conference_State } from "../../proto/gen/convoke/v1/conference_pb.js";
import { Observation_Verdict } from "../../proto/gen/convoke/v1/dispatcher_service_pb.js";
import { Server_Health_Cause, Server_State } from "../../proto/gen/convoke/v1/server_pb.js";
import type { PictureChange } from "./picture.ts";

/** A change of the store in one line. */
export function describeChange(change: PictureChange): string {
  switch (change.kind) {
    case "dispatcher":
      return `dispatcher ${change.id} ${change.next ? `epoch ${change.next.epoch}` : "gone"}`;
    case "server": {
      if (!change.next) return `server ${change.id} gone`;
      const { state, health, incarnation, instanceId, cordoned, drain } = change.next;
      const flags = `${cordoned ? " cordoned" : ""}${drain ? " draining" : ""}`;
      return `server ${change.id} ${Server_State[state]} ${Server_Health_Cause[health?.cause ?? 0]} incarnation ${incarnation} ${instanceId}${flags}: ${health?.message ?? ""}`;
    }
    case "conference": {
      if (!change.next) return `conference ${change.id} gone`;
      const { conference, claim } = change.next;
      const { state, dispatch, weight } = conference;
      const held = claim ? ` claim ${claim.dispatcherId}@${claim.epoch} ${claim.dispatchEpoch}` : "";
      const placed = dispatch
        ? ` on ${dispatch.serverId}/${dispatch.incarnation} epoch ${dispatch.epoch}`
        : "";
      return `conference ${change.id} (${weight}) ${Conference_State[state]}${held}${placed}`;
    }
    case "observation": {
      if (!change.next) return `report ${change.id} gone`;
      const { verdict, inARow, incarnation, detail } = change.next;
      return `report ${change.id} ${Observation_Verdict[verdict]} ${inARow} of incarnation ${incarnation}: ${detail}`;
    }
    case "brake":
      return `brake released until ${change.releasedUntilMs}`;
    case "round":
      return `round of ${change.members.join(", ") || "nobody"}`;
  }
}
