#!/usr/bin/env node
// The launcher. It must parse and run on old versions of Node.js: there it hands over to the newer one that the npm
// package `node` brings, and otherwise says what to install.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const REQUIRED_MAJOR = 24;

// Tells a process that it was started by an older Node.js, so that a wrong binary cannot start itself for ever.
const MARK = "CONVOKE_RELAUNCHED";

const majorOf = (version) => Number.parseInt(version.replace(/^v/, ""), 10);
const relaunched = process.env[MARK] === "1";

if (majorOf(process.version) >= REQUIRED_MAJOR) {
  if (relaunched) {
    delete process.env[MARK];
    followLauncher();
  }
  // A checkout runs its sources as they are; a published package has no sources beside this file.
  const source = new URL("./convoke.ts", import.meta.url);
  await import(existsSync(source) ? source.href : new URL("../dist/bin/convoke.js", import.meta.url).href);
} else {
  const binary = relaunched ? undefined : findNode();
  if (binary === undefined) {
    process.stderr.write(
      `error: convoke needs Node.js ${REQUIRED_MAJOR} or newer, and this is ${process.version}\n` +
        `hint: install it from https://nodejs.org, or run \`npm install node@${REQUIRED_MAJOR}\` beside convoke ` +
        "(and let its install script run)\n",
    );
    process.exitCode = 1;
  } else relaunch(binary);
}

/** The binary of the npm package `node`, or of the platform's package that it installs, when it is new enough. */
function findNode() {
  const require = createRequire(import.meta.url);
  const name = process.platform === "win32" ? "node.exe" : "node";
  const places = [import.meta.url];
  for (const packageName of ["node", `node-${process.platform}-${process.arch}`]) {
    for (const place of places) {
      try {
        const manifest = createRequire(place).resolve(`${packageName}/package.json`);
        places.push(manifest);
        if (majorOf(require(manifest).version) < REQUIRED_MAJOR) continue;
        const binary = join(dirname(manifest), "bin", name);
        if (existsSync(binary)) return binary;
      } catch {
        // Not installed there.
      }
    }
  }
  return undefined;
}

/** Runs this file again under the newer binary, and ends as it ends. */
function relaunch(binary) {
  const child = spawn(
    binary,
    [...process.execArgv, fileURLToPath(import.meta.url), ...process.argv.slice(2)],
    {
      env: { ...process.env, [MARK]: "1" },
      // The fourth is a channel that carries nothing: its end tells the child that this process is gone.
      stdio: ["inherit", "inherit", "inherit", "ipc"],
    },
  );
  const forwarded = ["SIGINT", "SIGTERM", "SIGHUP"];
  const forward = (signal) => child.kill(signal);
  for (const signal of forwarded) process.on(signal, forward);
  child.on("error", (err) => {
    process.stderr.write(`error: cannot run ${binary}: ${err.message}\n`);
    process.exitCode = 1;
  });
  child.on("exit", (code, signal) => {
    for (const name of forwarded) process.off(name, forward);
    if (signal) process.kill(process.pid, signal);
    else process.exitCode = code ?? 1;
  });
}

/** Ends this process when its launcher was killed, as if they were one. */
function followLauncher() {
  process.on("disconnect", () => process.kill(process.pid, "SIGKILL"));
  process.channel?.unref();
}
