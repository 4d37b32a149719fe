/**
 * A conference as the contracts describe it, with one thing happening at a time. Epochs of dispatchers are named by
 * strings (`epochKey`), since nothing but their being the same or not matters here.
 */
export interface ModelState {
  readonly phase: "absent" | "waiting" | "claimed" | "active" | "ended" | "cancelled";
  /** The dispatcher's epoch behind the last claim. */
  readonly epoch: string;
  /** The last claim's dispatch epoch; 0 before the first. */
  readonly dispatchEpoch: number;
  /** The last committed row, kept when it is no longer valid. */
  readonly row: { readonly dispatchEpoch: number; readonly address: string };
  /** Epochs that are over, sorted. */
  readonly over: readonly string[];
}

export type Observation =
  | { readonly sees: "absent" }
  | { readonly sees: "waiting" | "ended" | "cancelled" }
  | { readonly sees: "claimed"; readonly epoch?: string; readonly dispatchEpoch: number }
  | { readonly sees: "active"; readonly dispatchEpoch: number; readonly address: string }
  /** It exists and has no valid row. */
  | { readonly sees: "notActive" }
  /** What makes EndConference refuse. */
  | { readonly sees: "notEndable" }
  /** The claim does not stand. */
  | { readonly sees: "claimLost"; readonly epoch: string; readonly dispatchEpoch: number };

export type ModelOp =
  | { readonly kind: "create" }
  | { readonly kind: "claim"; readonly epoch: string; readonly dispatchEpoch: number }
  | {
      readonly kind: "commit";
      readonly epoch: string;
      readonly dispatchEpoch: number;
      readonly address: string;
    }
  | { readonly kind: "release"; readonly epoch: string; readonly dispatchEpoch: number }
  | { readonly kind: "cancel" }
  | { readonly kind: "end" }
  /** The registration of a dispatcher is gone. */
  | { readonly kind: "expire"; readonly epoch: string }
  | ({ readonly kind: "observe" } & Observation);

export const INITIAL: ModelState = {
  phase: "absent",
  epoch: "",
  dispatchEpoch: 0,
  row: { dispatchEpoch: 0, address: "" },
  over: [],
};

/** The state after an operation that succeeded; undefined when it could not have succeeded in this state. */
export function step(state: ModelState, op: ModelOp): ModelState | undefined {
  const { phase } = state;
  switch (op.kind) {
    case "create":
      // All creations of a conference carry one request_id, so a later one changes nothing.
      return phase === "absent" ? { ...state, phase: "waiting" } : state;
    case "claim": {
      // Only what nobody holds, by who is alive, and under a higher dispatch epoch than ever before.
      const may =
        phase === "waiting" && !state.over.includes(op.epoch) && op.dispatchEpoch > state.dispatchEpoch;
      return may
        ? { ...state, phase: "claimed", epoch: op.epoch, dispatchEpoch: op.dispatchEpoch }
        : undefined;
    }
    case "commit": {
      const { dispatchEpoch, address } = op;
      if (holds(state, op)) return { ...state, phase: "active", row: { dispatchEpoch, address } };
      // Committing again what is committed succeeds, also for a replica that has not heard of its end yet.
      return state.row.dispatchEpoch === dispatchEpoch && state.row.address === address ? state : undefined;
    }
    case "release":
      return holds(state, op) ? { ...state, phase: "waiting" } : undefined;
    case "cancel":
      return phase === "absent" || phase === "ended" ? undefined : { ...state, phase: "cancelled" };
    case "end":
      return phase === "active" || phase === "ended" ? { ...state, phase: "ended" } : undefined;
    case "expire": {
      const over = state.over.includes(op.epoch) ? state.over : [...state.over, op.epoch].sort();
      const isVoid = phase === "claimed" && state.epoch === op.epoch;
      return { ...state, over, ...(isVoid ? { phase: "waiting" } : {}) };
    }
    case "observe":
      return sees(state, op) ? state : undefined;
  }
}

/** Tells states apart. */
export function keyOf({ phase, epoch, dispatchEpoch, row, over }: ModelState): string {
  return `${phase} ${epoch} ${dispatchEpoch} ${row.dispatchEpoch} ${row.address} ${over.join()}`;
}

function holds(state: ModelState, claim: { readonly epoch: string; readonly dispatchEpoch: number }) {
  return (
    state.phase === "claimed" && state.epoch === claim.epoch && state.dispatchEpoch === claim.dispatchEpoch
  );
}

function sees(state: ModelState, seen: Observation): boolean {
  const { phase, row } = state;
  switch (seen.sees) {
    case "notActive":
      return phase !== "absent" && phase !== "active";
    case "notEndable":
      return phase === "waiting" || phase === "claimed" || phase === "cancelled";
    case "claimLost":
      return !holds(state, seen);
    case "claimed":
      return holds(state, { epoch: state.epoch, ...seen });
    case "active":
      return phase === "active" && row.dispatchEpoch === seen.dispatchEpoch && row.address === seen.address;
    default:
      return phase === seen.sees;
  }
}
