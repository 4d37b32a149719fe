import type { Logger } from "../../../common/logging.ts";
import type { EtcdConnection } from "./connection.ts";

/** What is known of a server's version. */
export type VersionVerdict =
  | { readonly kind: "good" }
  /** Has bugs that later releases of the same line do not have. */
  | { readonly kind: "buggy"; readonly upgradeTo: string }
  /** Older than what is supported. */
  | { readonly kind: "too_old" }
  | { readonly kind: "unknown" };

/**
 * By release line, the first patch release without a known bug that loses or repeats data: events lost by a watch,
 * revisions that differ between members after a crash, leases revoked by a member that was cut off.
 */
const FIRST_GOOD_PATCH: Readonly<Record<string, number>> = { "3.4": 38, "3.5": 23, "3.6": 5 };

/** @param version such as `3.4.23`, as a member tells it */
export function judgeVersion(version: string): VersionVerdict {
  const match = /^(\d+)\.(\d+)\.(\d+)(-.+)?$/.exec(version);
  if (!match) return { kind: "unknown" };
  const [major = 0, minor = 0, patch = 0] = match.slice(1, 4).map(Number);
  if (major < 3 || (major === 3 && minor < 4)) return { kind: "too_old" };
  const line = `${major}.${minor}`;
  const good = FIRST_GOOD_PATCH[line];
  if (good === undefined || patch > good || (patch === good && !match[4])) return { kind: "good" };
  return { kind: "buggy", upgradeTo: `${line}.${good}` };
}

/** Telling a version asks nothing of the cluster. */
const STATUS_TIMEOUT_MS = 5_000;

/** Reads each member's version and logs what an operator should know. Never rejects. */
export async function logVersions(connection: EtcdConnection, logger: Logger): Promise<void> {
  await Promise.all(
    connection.addresses.map(async (endpoint) => {
      try {
        const { version } = await connection.unaryAt(endpoint, STATUS_TIMEOUT_MS, (stubs) =>
          stubs.maintenance.status(),
        );
        logVersion(judgeVersion(version), { endpoint, version }, logger);
      } catch (err) {
        if (connection.closing.aborted) return;
        const reason = err instanceof Error ? err.message : String(err);
        logger.warn({ endpoint, reason }, "etcd member does not tell its version");
      }
    }),
  );
}

function logVersion(
  verdict: VersionVerdict,
  fields: { readonly endpoint: string; readonly version: string },
  logger: Logger,
) {
  switch (verdict.kind) {
    case "good":
      return logger.info(fields, "etcd member found");
    case "buggy":
      return logger.warn({ ...fields, upgradeTo: verdict.upgradeTo }, "this release of etcd has known bugs");
    case "too_old":
      return logger.error({ ...fields, upgradeTo: "3.4.38" }, "this release of etcd is not supported");
    case "unknown":
      return logger.warn(fields, "this release of etcd is not known");
  }
}
