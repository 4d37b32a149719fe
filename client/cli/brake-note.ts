import { Code, ConnectError } from "@connectrpc/connect";
import type { Brake } from "../../proto/gen/convoke/v1/detection_pb.js";
import type { ConvokeClient } from "../transport/client.ts";
import { idsText } from "./resources/brake.ts";

/** What an engaged brake holds back and what to do about it; undefined when it holds nothing. */
export async function readBrakeNote(client: ConvokeClient, signal: AbortSignal): Promise<string | undefined> {
  try {
    const { brake } = await client.servers.getDetection({}, { signal });
    return brake && brakeNote(brake);
  } catch (err) {
    // What was asked for has been printed; a control plane that knows no brake has none to tell of.
    if (err instanceof ConnectError && err.code === Code.Unimplemented) return undefined;
    throw err;
  }
}

function brakeNote(brake: Brake): string | undefined {
  if (!brake.engaged) return undefined;
  const { failingServers, servers, allowedServers, heldServerIds } = brake;
  const held =
    heldServerIds.length > 0
      ? `not declared DOWN: ${idsText(heldServerIds)}`
      : "no further server is declared DOWN";
  return `the brake is engaged: ${failingServers} of ${servers} servers fail and ${allowedServers} may; ${held}. Look at the network first; when they are really dead, \`convoke release-brake\` lets their conferences move`;
}
