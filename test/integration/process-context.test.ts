import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";

const CONTEXT = fileURLToPath(new URL("../../client/cli/process-context.ts", import.meta.url));

/** Prints which signals abort and why, and goes on until it is told to end. */
const script = (isDeferred: boolean) => `
  import { createProcessContext } from ${JSON.stringify(CONTEXT)};
  const context = createProcessContext();
  const tell = (name, signal) =>
    signal.addEventListener("abort", () => console.log(name + " " + signal.reason.signalName));
  tell("signal", context.signal);
  if (${isDeferred}) tell("deferred", context.deferTermination());
  setInterval(() => {}, 1000);
  console.log("ready");
`;

/** What belongs together counts as one signal for half a second. */
const APART_MS = 700;
const apart = () => new Promise((resolve) => setTimeout(resolve, APART_MS));

const children: { kill(signal: NodeJS.Signals): boolean }[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

async function start(isDeferred: boolean) {
  const child = spawn(process.execPath, ["--input-type=module", "-e", script(isDeferred)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(child);
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
  const told = (count: number) => expect.poll(() => lines.slice(1), { timeout: 30_000 }).toHaveLength(count);
  await expect.poll(() => lines, { timeout: 30_000 }).toEqual(["ready"]);
  const exit = once(child, "exit").then(([code]) => code as number | null);
  return { send: (name: NodeJS.Signals) => child.kill(name), lines, told, exit };
}

describe("signals to the process", () => {
  test("a deferred termination comes first, then the end, then the exit", async () => {
    const { send, lines, told, exit } = await start(true);
    // The second is an echo of the first.
    send("SIGTERM");
    send("SIGTERM");
    await told(1);
    await apart();
    expect(lines).toEqual(["ready", "deferred SIGTERM"]);
    send("SIGTERM");
    await told(2);
    expect(lines.at(-1)).toBe("signal SIGTERM");
    await apart();
    send("SIGTERM");
    expect(await exit).toBe(143);
  });

  test("SIGINT never waits for what is deferred", async () => {
    const { send, lines, told, exit } = await start(true);
    send("SIGINT");
    await told(1);
    expect(lines.at(-1)).toBe("signal SIGINT");
    await apart();
    send("SIGTERM");
    expect(await exit).toBe(143);
    expect(lines).toHaveLength(2);
  });

  test("SIGINT right after a deferred SIGTERM is no echo of it", async () => {
    const { send, lines, told } = await start(true);
    send("SIGTERM");
    await told(1);
    send("SIGINT");
    await told(2);
    expect(lines.slice(1)).toEqual(["deferred SIGTERM", "signal SIGINT"]);
  });

  test("without a deferral SIGTERM ends as SIGINT does", async () => {
    const { send, lines, told } = await start(false);
    send("SIGTERM");
    await told(1);
    expect(lines.at(-1)).toBe("signal SIGTERM");
  });
});
