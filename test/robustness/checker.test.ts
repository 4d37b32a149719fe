import { describe, expect, it } from "vitest";
import { checkHistory } from "./checker.ts";
import type { CallRecord, Outcome, WatchedRow, WatchRecord } from "./history.ts";

const ID = { conferenceId: "c" };
const ROW = { conferenceId: "c", epoch: 20, address: "ws://a" };

/** Calls one after the other, 10 ms each, unless a test gives their times. */
function story() {
  let nowMs = 0;
  const calls: CallRecord[] = [];
  const next = () => {
    nowMs += 10;
    return { client: "x", once: true, invokedMs: nowMs - 9, returnedMs: nowMs } as const;
  };
  const ok = <T>(result: T): Outcome<T> => ({ kind: "ok", result });
  const failed = (reason: string) => ({ kind: "failed", reason }) as const;
  const unknown = { kind: "unknown", reason: "Unavailable" } as const;
  const item = (dispatchEpoch: number) => ({ conferenceId: "c", dispatchEpoch });
  return {
    calls,
    failed,
    unknown,
    create: (outcome: Outcome<null> = ok(null), client = "x") =>
      calls.push({ ...next(), client, call: "create", args: ID, outcome }),
    cancel: (outcome: Outcome<null> = ok(null)) =>
      calls.push({ ...next(), call: "cancel", args: ID, outcome }),
    end: (outcome: Outcome<null> = ok(null)) => calls.push({ ...next(), call: "end", args: ID, outcome }),
    register(dispatcherId: string, epoch: number, ttlMs = 60_000) {
      const outcome = ok({ epoch, ttlMs });
      calls.push({ ...next(), client: dispatcherId, call: "register", args: { dispatcherId }, outcome });
    },
    deregister(dispatcherId: string, epoch: number) {
      const args = { dispatcherId, epoch };
      calls.push({ ...next(), client: dispatcherId, call: "deregister", args, outcome: ok(null) });
    },
    fetch(dispatcherId: string, epoch: number, dispatchEpoch: number) {
      const when = next();
      const tasks = [{ ...item(dispatchEpoch), receivedMs: when.returnedMs }];
      const args = { dispatcherId, epoch, tasks };
      calls.push({ ...when, client: dispatcherId, call: "fetch", args, outcome: ok(null) });
    },
    commit(
      dispatcherId: string,
      epoch: number,
      dispatchEpoch: number,
      outcome: Outcome<(string | undefined)[]> = ok([undefined]),
    ) {
      const args = { dispatcherId, epoch, items: [{ ...item(dispatchEpoch), address: "ws://a" }] };
      calls.push({ ...next(), client: dispatcherId, call: "commit", args, outcome });
    },
    get(state: "SCHEDULED" | "ENDED" | "CANCELLED" | "ACTIVE", client = "x") {
      const row = state === "ACTIVE" ? { row: ROW } : {};
      calls.push({ ...next(), client, call: "get", args: ID, outcome: ok({ ...ID, state, ...row }) });
    },
    query(rank: number, share: number, total = 5) {
      const outcome = ok({ total, revision: 7, dispatcherCount: 2, rank, share });
      calls.push({ ...next(), call: "query", args: { dispatcherId: `d${rank}` }, outcome });
    },
    list(revision: number, rows: readonly (typeof ROW)[]) {
      calls.push({ ...next(), call: "listDispatches", args: null, outcome: ok({ revision, rows }) });
    },
    final(...states: readonly ("ENDED" | "CANCELLED" | "ACTIVE")[]) {
      const conferences = states.map((state) => ({
        ...ID,
        state,
        ...(state === "ACTIVE" ? { row: ROW } : {}),
      }));
      calls.push({ ...next(), call: "final", args: null, outcome: ok({ conferences }) });
    },
    found: (watches: readonly WatchRecord[] = []) =>
      [...new Set(checkHistory({ calls, watches }).findings.map(({ invariant }) => invariant))].sort(),
  };
}

type Story = ReturnType<typeof story>;

/** Created and committed by d1 under epoch 10 and dispatch epoch 20. */
function placed() {
  const told = story();
  told.create();
  told.register("d1", 10);
  told.fetch("d1", 10, 20);
  told.commit("d1", 10, 20);
  return told;
}

const PUT = { type: "PUT", existing: false, ...ROW } as const;
const DELETE = { type: "DELETE", existing: false, ...ROW } as const;
const watched = (revision: number, ...events: readonly WatchedRow[]): WatchRecord => ({
  ...{ watcher: "w", kind: "events", revision },
  events,
});

describe("a history is accepted", () => {
  const good: Record<string, (told: Story) => void> = {
    "of a life from creation to end": (told) => {
      told.get("ACTIVE");
      told.end();
      told.final("ENDED");
    },
    "where another client reads an older state": (told) => {
      told.end();
      told.get("ACTIVE", "y");
    },
    "where an end of unknown outcome landed": (told) => {
      told.end(told.unknown);
      told.get("ACTIVE");
      told.get("ENDED");
      told.final("ENDED");
    },
    "where an end of unknown outcome did not land": (told) => {
      told.end(told.unknown);
      told.final("ACTIVE");
    },
    "where a commit is repeated": (told) => told.commit("d1", 10, 20),
    "where a creation is repeated elsewhere and answered from an older view": (told) => {
      told.create({ kind: "ok", result: null }, "y");
      told.get("SCHEDULED", "y");
    },
    "where a dispatcher is refused after its epoch": (told) => {
      told.deregister("d1", 10);
      told.commit("d1", 10, 20, told.failed("EPOCH_EXPIRED"));
    },
  };
  for (const [name, tell] of Object.entries(good)) {
    it(name, () => {
      const told = placed();
      tell(told);
      expect(told.found()).toEqual([]);
    });
  }

  it("where a claim of a dispatcher that is gone is taken over", () => {
    const told = story();
    told.create();
    told.register("d1", 10);
    told.fetch("d1", 10, 20);
    told.deregister("d1", 10);
    told.register("d2", 21);
    told.fetch("d2", 21, 22);
    told.commit("d2", 21, 22);
    expect(told.found()).toEqual([]);
  });

  it("where a claim was made by a fetch whose answer was lost", () => {
    const told = story();
    told.create();
    told.register("d1", 10);
    const args = { dispatcherId: "d1", epoch: 10, tasks: [] };
    told.calls.push({
      ...{ client: "d1", once: false, invokedMs: 21, returnedMs: 25, call: "fetch", args },
      outcome: told.unknown,
    });
    told.end(told.failed("STATE_CONFLICT"));
    told.fetch("d1", 10, 20);
    told.commit("d1", 10, 20);
    expect(told.found()).toEqual([]);
  });
});

describe("a history is rejected", () => {
  const bad: Record<string, readonly [readonly string[], (told: Story) => void]> = {
    "where an acknowledged creation is gone": [["I3"], (told) => told.final()],
    "where an acknowledged end is lost": [
      ["I1"],
      (told) => {
        told.end();
        told.final("ACTIVE");
      },
    ],
    "where an acknowledged cancellation is lost": [
      ["I1"],
      (told) => {
        told.cancel();
        told.final("ACTIVE");
      },
    ],
    "where a client does not read its own write": [
      ["I1"],
      (told) => {
        told.end();
        told.get("ACTIVE");
      },
    ],
    "where a client reads older than it has read": [
      ["I1"],
      (told) => {
        told.end(told.unknown);
        told.get("ENDED", "y");
        told.get("ACTIVE", "y");
      },
    ],
    "where nobody had ended what is read as ended": [["I1"], (told) => told.get("ENDED")],
    "where what runs is claimed": [
      ["I1"],
      (told) => {
        told.register("d2", 21);
        told.fetch("d2", 21, 22);
      },
    ],
    "where a commit succeeds after the epoch": [
      ["I5"],
      (told) => {
        told.deregister("d1", 10);
        told.commit("d1", 10, 20);
      },
    ],
    "where shares are not fair": [
      ["I4"],
      (told) => {
        told.query(0, 4);
        told.query(1, 1);
      },
    ],
    "where replicas tell different totals": [
      ["I4"],
      (told) => {
        told.query(0, 3);
        told.query(1, 2, 4);
      },
    ],
  };
  for (const [name, [invariants, tell]] of Object.entries(bad)) {
    it(name, () => {
      const told = placed();
      tell(told);
      expect(told.found()).toEqual(invariants);
    });
  }

  it("where two dispatchers hold one claim", () => {
    const told = story();
    told.create();
    told.register("d1", 10);
    told.register("d2", 11);
    told.fetch("d1", 10, 20);
    told.fetch("d2", 11, 21);
    expect(told.found()).toEqual(["I1"]);
  });

  it("where the dispatch epoch goes down", () => {
    const told = story();
    told.create();
    told.register("d1", 10);
    told.fetch("d1", 10, 20);
    told.deregister("d1", 10);
    told.register("d1", 11);
    told.fetch("d1", 11, 19);
    expect(told.found()).toEqual(["I1", "I2"]);
  });
});

describe("a watch", () => {
  it("is accepted when it tells each change once and ends with what is listed", () => {
    const told = placed();
    told.list(30, []);
    const again = { watcher: "w", kind: "restart" } as const;
    expect(told.found([watched(21, PUT), watched(30, DELETE)])).toEqual([]);
    expect(told.found([watched(21, PUT), again, watched(0, { ...PUT, existing: true })])).toEqual([]);
  });

  it("is rejected when it tells a change twice, leaves one out, or goes back", () => {
    const told = placed();
    told.list(30, []);
    expect(told.found([watched(21, PUT), watched(22, PUT), watched(30, DELETE)])).toEqual(["I7"]);
    expect(told.found([watched(21, PUT), watched(30)])).toEqual(["I7"]);
    expect(told.found([watched(30, DELETE)])).toEqual(["I7"]);
    expect(told.found([watched(40, PUT), watched(31)])).toEqual(["I7"]);
  });

  it("is rejected when in the end it has told less than is listed", () => {
    const told = placed();
    told.final("ACTIVE");
    told.list(99, [ROW]);
    expect(told.found([watched(98)])).toEqual(["I7"]);
    expect(told.found([watched(98, PUT)])).toEqual([]);
  });
});
