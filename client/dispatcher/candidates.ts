import { Server_State } from "../../proto/gen/convoke/v1/server_pb.js";

/** What placement looks at of a conference server. */
export interface PlaceableServer {
  readonly serverId: string;
  readonly incarnation: bigint;
  readonly state: Server_State;
  readonly cordoned: boolean;
  /** Whether a start failed on it so lately that it gets a rest. */
  readonly penalised: boolean;
  readonly reach: Reach;
  /** Empty when it has none. */
  readonly region: string;
  readonly labels: Readonly<Record<string, string>>;
  /** In units of weight, at least 1. */
  readonly capacity: number;
  /** Units taken, as far as this dispatcher knows; may exceed the capacity. */
  readonly reservedUnits: number;
  /** Those of them that it has placed itself since the control plane's figures were read. */
  readonly ownUnits: number;
}

/**
 * How a server answers the probes of this dispatcher: one that `fails` gets nothing from it, one in `doubt` only what finds
 * no room elsewhere. A single late answer is a doubt; were that enough to refuse it, a busy moment of all would leave no
 * server at all.
 */
export type Reach = "answers" | "doubt" | "fails";

/** What placement looks at of a task. */
export interface PlaceableTask {
  /** In units, at least 1. */
  readonly weight: number;
  /** Empty for any. */
  readonly region: string;
  readonly requiredLabels: Readonly<Record<string, string>>;
  readonly preferredLabels: Readonly<Record<string, string>>;
  readonly avoidedLabels: Readonly<Record<string, string>>;
  /** Keys (`serverKey`) of servers that it shall not be tried on again. */
  readonly triedServers?: ReadonlySet<string>;
  /** Planned in this order, lowest first; 0 when not set. */
  readonly urgency?: number;
  /** The server that it leaves. */
  readonly leaving?: Leaving;
}

/** The server that a conference leaves. */
export interface Leaving {
  readonly serverId: string;
  /** Whether it must not come back there; else it may when there is no room anywhere else. */
  readonly forGood: boolean;
}

/** A server that passed the filters. */
export interface Candidate {
  readonly server: PlaceableServer;
  /** Its place in the ring. */
  readonly index: number;
  /** Added to its score for preferred and avoided labels. */
  readonly labelScore: number;
}

export interface Candidates {
  /** In the order in which equal scores are settled. */
  readonly servers: readonly Candidate[];
  /** Why the others were left out, and how many for each reason. */
  readonly refused: ReadonlyMap<string, number>;
}

/**
 * What matching all preferred labels is worth, and matching all avoided ones costs, as a part of the capacity: large
 * enough to decide between servers that are about equally full, too small to fill one up while others stand empty.
 */
export const LABEL_WORTH = 0.1;

/**
 * The servers that a task of this kind may go to, room aside.
 * @param ring all servers in an order that every dispatcher agrees on
 * @param start where in the ring equal scores begin, counted among the servers that pass; any whole number
 */
export function candidatesFor(
  task: PlaceableTask,
  ring: readonly PlaceableServer[],
  start: number,
): Candidates {
  const passed: Candidate[] = [];
  const refused = new Map<string, number>();
  const refuse = (why: string) => refused.set(why, (refused.get(why) ?? 0) + 1);
  for (const [index, server] of ring.entries()) {
    const why = refusalOf(task, server);
    if (why !== undefined) {
      refuse(why);
      continue;
    }
    const labelScore =
      LABEL_WORTH *
      (matchedPart(task.avoidedLabels, server.labels) - matchedPart(task.preferredLabels, server.labels));
    passed.push({ server, index, labelScore });
  }
  const from = passed.length === 0 ? 0 : start % passed.length;
  return { servers: [...passed.slice(from), ...passed.slice(0, from)], refused };
}

function refusalOf(task: PlaceableTask, server: PlaceableServer): string | undefined {
  if (server.state !== Server_State.UP) return STATE_REFUSALS[server.state] ?? "in an unknown state";
  if (server.reach === "fails") return "does not answer this dispatcher";
  if (server.cordoned) return "cordoned";
  if (task.region !== "" && server.region !== task.region) return `not in region ${task.region}`;
  for (const [key, value] of Object.entries(task.requiredLabels)) {
    if (server.labels[key] !== value) return `without label ${key}=${value}`;
  }
  if (server.penalised) return "resting after a failed start";
  return undefined;
}

const STATE_REFUSALS: Partial<Record<Server_State, string>> = {
  [Server_State.SUSPECT]: "suspect",
  [Server_State.DOWN]: "down",
};

/** The part of the wanted labels that is there, 0 to 1. */
function matchedPart(
  wanted: Readonly<Record<string, string>>,
  labels: Readonly<Record<string, string>>,
): number {
  const entries = Object.entries(wanted);
  if (entries.length === 0) return 0;
  return entries.filter(([key, value]) => labels[key] === value).length / entries.length;
}
