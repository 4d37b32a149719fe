import { Code } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { statusError } from "../../common/rpc/status.ts";
import { Dispatch_MoveReason } from "../../proto/gen/convoke/v1/dispatch_pb.js";
import { ErrorReason } from "../../proto/gen/convoke/v1/error_reason_pb.js";
import { createDispatcherWorld } from "../../test/support/dispatcher-world.ts";
import { allSettled, runDispatchers, SOON } from "../../test/support/run-dispatchers.ts";

describe("a dispatcher, when servers fail or are emptied,", () => {
  const start = runDispatchers();

  describe("with conferences that are moved", () => {
    it("places those that were lost first, the running ones before all, and drains after the rest", async () => {
      const world = createDispatcherWorld();
      const server = world.addServer("a", { capacity: 14 });
      const soonMs = Date.now() + 300_000;
      const { SERVER_DOWN, INCARNATION_ENDED, DRAIN } = Dispatch_MoveReason;
      const [drained] = world.addConferences(1, { weight: 9, moveReason: DRAIN, previousServerId: "z" });
      const [ordinary] = world.addConferences(1, { weight: 8 });
      const [soon] = world.addConferences(1, { weight: 4, moveReason: SERVER_DOWN, startMs: soonMs });
      const [small] = world.addConferences(1, { weight: 2, moveReason: INCARNATION_ENDED });
      const [large] = world.addConferences(1, { weight: 3, moveReason: SERVER_DOWN });
      start(world);
      await allSettled(world);
      // All planned at once: the ordinary one and the drain find no room any more.
      expect([...server.hosted.keys()]).toEqual([large?.id, small?.id, soon?.id]);
      expect(ordinary?.releases[0]?.cause).toBe("NO_CAPACITY");
      expect(drained?.releases[0]?.cause).toBe("NO_CAPACITY");
    });

    it("never puts a drained one back, and a lost one only where nothing else is left", async () => {
      const world = createDispatcherWorld();
      const left = world.addServer("left");
      const { SERVER_DOWN, DRAIN } = Dispatch_MoveReason;
      const [drained] = world.addConferences(1, { moveReason: DRAIN, previousServerId: "left" });
      const [lost] = world.addConferences(1, { moveReason: SERVER_DOWN, previousServerId: "left" });
      const { stop } = start(world);
      await allSettled(world);
      expect(lost?.dispatch?.serverId).toBe("left");
      expect(drained?.releases).toEqual([
        { cause: "NO_CAPACITY", message: "of 1 servers: 1 tried before or left" },
      ]);
      await stop();
      world.addServer("other", { capacity: 100, othersUnits: 90 });
      const more = [SERVER_DOWN, DRAIN].flatMap((moveReason) =>
        world.addConferences(1, { moveReason, previousServerId: "left" }),
      );
      start(world);
      await allSettled(world);
      expect(more.map(({ dispatch }) => dispatch?.serverId)).toEqual(["other", "other"]);
      // What it was moved from is the business of the agent there.
      expect(left.stopped).toEqual([]);
    });

    it("does not hold it against a drained one that no server could start it", async () => {
      const world = createDispatcherWorld();
      world.addServer("a", {
        rejectStart: () => ({ reason: ErrorReason.DRIVER_FAILED, message: "no media" }),
      });
      const moveReason = Dispatch_MoveReason.DRAIN;
      const [drained] = world.addConferences(1, { moveReason, previousServerId: "z" });
      start(world);
      await allSettled(world);
      expect(drained?.releases[0]).toMatchObject({
        cause: "NO_CAPACITY",
        message: expect.stringContaining("no media"),
      });
    });
  });

  describe("as an observer", () => {
    it("reports a server that says it is not healthy, and places nothing there", async () => {
      const world = createDispatcherWorld();
      const sick = world.addServer("sick");
      world.addServer("well");
      let asked = 0;
      const { stats } = start(world);
      await expect.poll(() => world.calls, SOON).toContain("register");
      sick.keepalive = () => {
        asked++;
        throw statusError(Code.Unavailable, ErrorReason.SERVER_UNAVAILABLE, "the media engine is gone");
      };
      await expect.poll(() => asked, SOON).toBeGreaterThan(0);
      world.addConferences(10);
      await allSettled(world);
      expect(world.activeByServer()).toEqual({ well: 10 });
      expect(stats.startFailures).toBe(0);
      await expect.poll(() => world.reported.get("sick"), SOON).toEqual({ verdict: "FAILED", inARow: 2 });
      expect(world.reported.has("well")).toBe(false);
      sick.keepalive = () => {};
      await expect.poll(() => world.reported.get("sick")?.verdict, SOON).toBe("OK");
    });

    it("claims nothing while no server answers it", async () => {
      const world = createDispatcherWorld();
      let asked = 0;
      world.addServer("sick", {
        keepalive: () => {
          asked++;
          throw statusError(Code.Unavailable, ErrorReason.SERVER_UNAVAILABLE, "the media engine is gone");
        },
      });
      start(world);
      await expect.poll(() => asked, SOON).toBeGreaterThan(1);
      let fetches = 0;
      world.hooks.beforeFetch = async () => {
        fetches++;
      };
      const [conference] = world.addConferences(1);
      const before = asked;
      await expect.poll(() => asked, SOON).toBeGreaterThan(before + 2);
      // One may have been under way.
      expect(fetches).toBeLessThanOrEqual(1);
      expect(conference?.dispatch).toBeUndefined();
    });
  });
});
