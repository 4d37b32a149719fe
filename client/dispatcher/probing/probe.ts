import { Code, ConnectError } from "@connectrpc/connect";
import type { Clock } from "../../../common/clock.ts";
import { reasonName, reasonOf } from "../../../common/rpc/status.ts";
import { ErrorReason } from "../../../proto/gen/convoke/v1/error_reason_pb.js";
import type { Server_State } from "../../../proto/gen/convoke/v1/server_pb.js";
import type { AgentClient } from "../../transport/client.ts";
import type { CheckPort } from "./check-port.ts";
import type { ProbeResult } from "./server-observer.ts";

/** A server as it is probed. */
export interface ProbeTarget {
  readonly serverId: string;
  readonly agentAddress: string;
  readonly incarnation: bigint;
  /** As the control plane sees it: the agent wants to know whether its dispatches are still valid. */
  readonly state: Server_State;
}

/** A way to the agent of the target. */
export interface AgentLine {
  readonly client: AgentClient;
  /** The same on a new connection, at once; undefined when the target is no longer there. */
  renewed(): AgentClient | undefined;
}

export interface ProbeOptions {
  readonly dispatcherId: string;
  readonly timeoutMs: number;
  /** The dispatcher cannot renew its registration, since nobody answers. Default: false. */
  readonly controlPlaneLost?: boolean;
  readonly checkPort: CheckPort;
  readonly clock: Clock;
}

/** Less than this is not worth beginning anything with. */
const LEAST_BUDGET_MS = 1;

/**
 * Asks a server whether it is alive, within `timeoutMs` in all. Failures are results.
 *
 * After a call that failed without a word of ours, TCP is asked on a connection of its own: only that tells a refusal from
 * a break, and only that tells it now, since a channel that was refused waits before it connects again. When the port is
 * open the call is repeated once on a new channel.
 *
 * @throws the signal's reason when it aborts
 */
export async function probeServer(
  target: ProbeTarget,
  line: AgentLine,
  { dispatcherId, timeoutMs, controlPlaneLost = false, checkPort, clock }: ProbeOptions,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const deadlineMs = clock.monotonicMs() + timeoutMs;
  const leftMs = () => Math.floor(deadlineMs - clock.monotonicMs());

  async function ask(client: AgentClient): Promise<ProbeResult> {
    const { serverId } = await client.keepalive(
      { dispatcherId, incarnation: target.incarnation, serverState: target.state, controlPlaneLost },
      { signal, timeoutMs: Math.max(LEAST_BUDGET_MS, leftMs()) },
    );
    if (serverId === target.serverId) return OK;
    const detail = `at ${target.agentAddress} answers server ${JSON.stringify(serverId)}`;
    return { kind: "error", detail: cut(detail) };
  }

  try {
    return await ask(line.client);
  } catch (err) {
    signal.throwIfAborted();
    const told = resultOf(err, timeoutMs);
    if (told.kind !== "timeout" || leftMs() < LEAST_BUDGET_MS) return told;
    const port = await checkPort(target.agentAddress, leftMs(), signal);
    signal.throwIfAborted();
    if (port === "refused") return { kind: "refused", detail: `${target.agentAddress} refuses connections` };
    if (port !== "open" || leftMs() < LEAST_BUDGET_MS) return told;
  }
  const client = line.renewed();
  if (!client) return { kind: "timeout", detail: "the connection broke" };
  try {
    return await ask(client);
  } catch (err) {
    signal.throwIfAborted();
    return resultOf(err, timeoutMs);
  }
}

const OK: ProbeResult = { kind: "ok", detail: "" };

function resultOf(error: unknown, timeoutMs: number): ProbeResult {
  const reason = reasonOf(error);
  const status = ConnectError.from(error);
  if (reason === ErrorReason.SERVER_UNAVAILABLE) return { kind: "unhealthy", detail: cut(status.rawMessage) };
  if (reason !== undefined)
    return { kind: "error", detail: cut(`${reasonName(reason)}: ${status.rawMessage}`) };
  if (status.code === Code.DeadlineExceeded)
    return { kind: "timeout", detail: `no answer within ${timeoutMs} ms` };
  if (status.code === Code.Unavailable)
    return { kind: "timeout", detail: cut(`no connection: ${status.rawMessage}`) };
  return { kind: "error", detail: cut(`${Code[status.code]}: ${status.rawMessage}`) };
}

/** The contract's limit of `detail`, in bytes. */
const MAX_DETAIL_BYTES = 256;

function cut(text: string): string {
  if (Buffer.byteLength(text) <= MAX_DETAIL_BYTES) return text;
  // Decoding replaces a character that was cut in two; it is dropped, as it may have grown.
  return Buffer.from(text)
    .subarray(0, MAX_DETAIL_BYTES)
    .toString()
    .replace(/\uFFFD+$/, "");
}
