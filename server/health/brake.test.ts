import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { brakeAllowance, compileDetection } from "../../common/detection.ts";
import { timestampFromMs } from "../../common/time.ts";
import { Server_State, ServerSchema } from "../../proto/gen/convoke/v1/server_pb.js";
import { countBrake } from "./brake.ts";

const settings = compileDetection();
const NOW_MS = Date.UTC(2030, 0, 1);
const AT = { nowMs: NOW_MS, releasedUntilMs: 0 };

const server = (state: Server_State, downAgoMs?: number) =>
  create(ServerSchema, {
    state,
    health: downAgoMs === undefined ? {} : { downTime: timestampFromMs(NOW_MS - downAgoMs) },
  });
const well = { server: server(Server_State.UP), isFailing: false };
const failing = { server: server(Server_State.SUSPECT), isFailing: true };
const down = (agoMs: number) => ({ server: server(Server_State.DOWN, agoMs), isFailing: true });
const some = <T>(count: number, item: T) => Array<T>(count).fill(item);

describe("the brake", () => {
  it("lets one of eight pass, and holds ten of twenty", () => {
    expect(countBrake([failing], 7, settings, AT)).toMatchObject({
      failing: 1,
      servers: 8,
      allowed: 2,
      isEngaged: false,
    });
    expect(countBrake([...some(10, failing), ...some(10, well)], 0, settings, AT)).toMatchObject({
      failing: 10,
      servers: 20,
      allowed: 6,
      isEngaged: true,
    });
  });

  it("counts what was declared DOWN within the window, though it is back, and no longer", () => {
    const back = { server: server(Server_State.UP, 59_999), isFailing: false };
    expect(countBrake([back, down(30_000)], 8, settings, AT)).toMatchObject({
      failing: 2,
      servers: 10,
      nextMs: NOW_MS + 1,
    });
    const long = { server: server(Server_State.UP, 60_000), isFailing: false };
    expect(countBrake([long, down(60_000)], 8, settings, AT)).toMatchObject({
      failing: 0,
      servers: 9,
      nextMs: undefined,
    });
  });

  it("never lets go of what it holds because of time alone", () => {
    const held = { server: server(Server_State.SUSPECT), isFailing: true };
    const later = { ...AT, nowMs: NOW_MS + 24 * 3_600_000 };
    expect(countBrake([...some(10, held)], 10, settings, later).isEngaged).toBe(true);
  });

  it("is released until the operator's time has passed", () => {
    const many = [...some(10, failing), ...some(10, well)];
    const at = (releasedUntilMs: number) => countBrake(many, 0, settings, { nowMs: NOW_MS, releasedUntilMs });
    expect(at(NOW_MS + 1)).toMatchObject({ isEngaged: false, isReleased: true });
    expect(at(NOW_MS)).toMatchObject({ isEngaged: true, isReleased: false });
  });

  it("is engaged exactly when more fail than the set part, of whatever servers", () => {
    const standing = fc.record({
      state: fc.constantFrom(Server_State.UP, Server_State.SUSPECT, Server_State.DOWN),
      downAgoMs: fc.option(fc.nat({ max: 200_000 }), { nil: undefined }),
      isFailing: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(standing, { maxLength: 60 }), (given) => {
        const count = countBrake(
          given.map(({ state, downAgoMs, isFailing }) => ({ server: server(state, downAgoMs), isFailing })),
          0,
          settings,
          AT,
        );
        const isRecent = (downAgoMs: number | undefined) =>
          downAgoMs !== undefined && downAgoMs < settings.brakeWindowMs;
        const counted = given.filter(
          ({ state, downAgoMs }) => state !== Server_State.DOWN || isRecent(downAgoMs),
        );
        const bad = counted.filter(({ downAgoMs, isFailing }) => isFailing || isRecent(downAgoMs));
        expect(count.servers).toBe(counted.length);
        expect(count.failing).toBe(bad.length);
        expect(count.isEngaged).toBe(bad.length > brakeAllowance(settings, counted.length));
      }),
    );
  });
});
