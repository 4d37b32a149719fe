import type { Clock } from "../../common/clock.ts";
import type { VirtualTime } from "./virtual-time.ts";

/**
 * A process of the simulated world. What happens inside comes from outside: from its timers and from messages, and
 * both come in through its gate. So a process that is paused does nothing until it goes on, when it finds its timers late
 * and its messages waiting, and one that is killed never does anything again.
 */
export interface SimulatedProcess {
  readonly name: string;
  readonly clock: Clock;
  readonly state: "running" | "paused" | "killed";
  /** Runs this inside the process as soon as it runs; never when it is killed. */
  enter(work: () => void): void;
  /** As SIGSTOP. */
  pause(): void;
  /** As SIGCONT. */
  resume(): void;
  /** As SIGKILL. */
  kill(): void;
  /** Never aborts as long as the world goes on: a process ends by being killed. */
  readonly signal: AbortSignal;
  /** Lets go of everything that still waits inside, when the world is over. */
  dispose(): void;
  /** Calls back when the process is killed. */
  onKilled(listener: () => void): void;
}

/** The wall clock at the beginning of every world, in milliseconds since 1970. */
export const EPOCH_MS = Date.UTC(2030, 0, 1);

/** Made once: an exception with its stack costs more than most of what happens. */
const WORLD_OVER = new Error("the world is over");

/** @param machine what it lives and dies with, and stands still with */
export function createSimulatedProcess(
  name: string,
  time: VirtualTime,
  machine?: SimulatedProcess,
): SimulatedProcess {
  let own: SimulatedProcess["state"] = "running";
  let waiting: (() => void)[] = [];
  const listeners: (() => void)[] = [];
  const controller = new AbortController();

  function enterOwn(work: () => void) {
    if (own === "running" && waiting.length === 0) work();
    else if (own !== "killed") waiting.push(work);
  }
  const enter = machine ? (work: () => void) => machine.enter(() => enterOwn(work)) : enterOwn;

  /** One at a time, so that each finds the process as the one before has left it. */
  function goOn() {
    if (own !== "running") return;
    const work = waiting.shift();
    if (!work) return;
    if (waiting.length > 0) time.at(time.nowMs, goOn);
    work();
  }

  const process: SimulatedProcess = {
    name,
    clock: {
      wallMs: () => EPOCH_MS + time.nowMs,
      monotonicMs: () => time.nowMs,
      setTimer(callback, delayMs) {
        let cleared = false;
        const scheduled = time.at(time.nowMs + Math.max(0, delayMs), () =>
          enter(() => {
            if (!cleared) callback();
          }),
        );
        return {
          clear() {
            cleared = true;
            scheduled.cancel();
          },
        };
      },
    },
    get state() {
      return own === "running" && machine ? machine.state : own;
    },
    enter,
    pause() {
      if (own === "running") own = "paused";
    },
    resume() {
      if (own !== "paused") return;
      own = "running";
      if (waiting.length > 0) time.at(time.nowMs, goOn);
    },
    kill() {
      if (own === "killed") return;
      own = "killed";
      waiting = [];
      for (const listener of listeners.splice(0)) listener();
    },
    onKilled: (listener) => void listeners.push(listener),
    signal: controller.signal,
    dispose() {
      process.kill();
      controller.abort(WORLD_OVER);
    },
  };
  machine?.onKilled(() => process.kill());
  time.onOver(() => process.dispose());
  return process;
}
