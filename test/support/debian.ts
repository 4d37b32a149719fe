import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

/** A mirror that answers slowly is waited for; one that does not answer fails the test that needs it. */
const INSTALL_TIMEOUT_MS = 300_000;

/** Test files run side by side, and only one of them can install at a time. */
const LOCK_FILE = "/tmp/convoke-apt-get.lock";

/**
 * Sees to it that Debian packages are installed: by apt-get when this is root, else not at all. Give the hook that calls
 * this `DEBIAN_HOOK_TIMEOUT_MS`.
 *
 * @throws {Error} in one line that names what to install, when that cannot be done here
 */
export async function ensureDebianPackages(packages: readonly string[]): Promise<void> {
  const missing = await missingPackages(packages);
  if (missing.length === 0) return;
  const wanted = missing.join(" ");
  if (process.getuid?.() !== 0)
    throw new Error(`the tests need Debian packages: run \`apt-get install ${wanted}\` as root`);
  try {
    await aptGet("update", "-q");
    await aptGet("install", "-q", "-y", "--no-install-recommends", ...missing);
  } catch (err) {
    const said = err instanceof Error && "stderr" in err ? String(err.stderr) : String(err);
    const reason = said.trim().split("\n").at(-1);
    throw new Error(`the tests need Debian packages, and installing ${wanted} failed: ${reason}`, {
      cause: err,
    });
  }
}

/** For the hook that calls `ensureDebianPackages`: longer than all it does. */
export const DEBIAN_HOOK_TIMEOUT_MS = 3 * INSTALL_TIMEOUT_MS;

async function missingPackages(packages: readonly string[]): Promise<string[]> {
  const missing: string[] = [];
  for (const name of packages) {
    // It fails for a package that dpkg has never heard of, and is not there on other systems than Debian's.
    const isInstalled = await run("dpkg-query", ["--status", name]).then(
      ({ stdout }) => /^Status: \S+ \S+ installed$/m.test(stdout),
      () => false,
    );
    if (!isInstalled) missing.push(name);
  }
  return missing;
}

async function aptGet(...args: readonly string[]): Promise<void> {
  const waitS = String(INSTALL_TIMEOUT_MS / 1000);
  const lock = ["-w", waitS, LOCK_FILE];
  await run("flock", [...lock, "apt-get", "-o", `DPkg::Lock::Timeout=${waitS}`, ...args], {
    timeout: INSTALL_TIMEOUT_MS,
    maxBuffer: 64 * 1024 * 1024,
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
  });
}
