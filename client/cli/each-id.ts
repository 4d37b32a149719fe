import { CliError } from "./cli-error.ts";
import type { CliContext } from "./context.ts";
import { isUnavailable, reportOf } from "./errors.ts";
import { ExitCode } from "./exit-code.ts";

/**
 * Does something for each ID, one after the other, and yields the results. An ID that fails leaves the others alone;
 * only when the control plane cannot be reached are the rest not tried.
 * @throws at the end: the one failure as it came when there was one ID, else a CliError with a line for each failure,
 * which exits with `partial` when some succeeded
 */
export async function* forEachId<T>(
  context: Pick<CliContext, "signal">,
  ids: readonly string[],
  endpoint: string,
  call: (id: string) => Promise<T>,
): AsyncGenerator<T, void, undefined> {
  const failures: string[] = [];
  let succeeded = 0;
  let exitCode: ExitCode = ExitCode.failed;
  for (const [index, id] of ids.entries()) {
    let result: T;
    try {
      result = await call(id);
    } catch (err) {
      context.signal.throwIfAborted();
      if (ids.length === 1) throw err;
      const report = reportOf(err, endpoint);
      failures.push(`${id}: ${report.message}`, ...report.details.map((detail) => `  ${detail}`));
      exitCode = report.exitCode;
      if (!isUnavailable(err)) continue;
      const untried = ids.slice(index + 1);
      if (untried.length > 0) failures.push(`not tried: ${untried.join(" ")}`);
      break;
    }
    succeeded++;
    yield result;
  }
  if (failures.length > 0)
    throw new CliError(`${succeeded} of ${ids.length} done`, {
      details: failures,
      exitCode: succeeded > 0 ? ExitCode.partial : exitCode,
    });
}

/** The IDs without repetitions, and without the kind of thing in front of them: `cancel conference a` is `cancel a`. */
export function idsOf(args: readonly string[], kinds: readonly string[]): string[] {
  const ids = kinds.includes(args[0] ?? "") ? args.slice(1) : args;
  if (ids.length === 0)
    throw new CliError(`missing the ID of the ${kinds[0]}`, {
      exitCode: ExitCode.usage,
      hint: `\`convoke get ${kinds[1]}\` lists those there are`,
    });
  return [...new Set(ids)];
}
