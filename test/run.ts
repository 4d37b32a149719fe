/**
 * `npm test [-- FILTER…]`: every test, or those whose path has a filter in it. Ends with one line that counts tests, for
 * people and machines that read no more.
 */
import { startVitest } from "vitest/node";
import { ensureDebianPackages } from "./support/debian.ts";

/** Real peers: etcd with its tool, keys for TLS, and the calendar library of another language. */
const DEBIAN_PACKAGES = ["etcd-server", "etcd-client", "openssl", "python3-recurring-ical-events"];

try {
  await ensureDebianPackages(DEBIAN_PACKAGES);
} catch (err) {
  console.error(err instanceof Error ? err.message : String(err));
  process.exit(1);
}
const vitest = await startVitest("test", process.argv.slice(2), { watch: false, run: true });
let passed = 0;
let failed = 0;
let skipped = 0;
for (const module of vitest.state.getTestModules()) {
  for (const test of module.children.allTests()) {
    const { state } = test.result();
    if (state === "passed") passed += 1;
    else if (state === "failed") failed += 1;
    else skipped += 1;
  }
}
const unhandled = vitest.state.getUnhandledErrors().length;
await vitest.close();
console.log(`tests: ${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
// A test that nobody runs says nothing, so a skipped one fails the run, as does a run without tests.
if (failed + skipped + unhandled > 0 || passed === 0) process.exitCode = 1;
