import { CliError } from "./cli-error.ts";
import type { CliContext } from "./context.ts";
import { isUnavailable, reportOf } from "./errors.ts";
import { ExitCode } from "./exit-code.ts";

/**
 * So many calls are under way at once: one after the other would wait for the disk each time, and more would only wait in
 * the control plane.
 */
const AT_ONCE = 16;

type Outcome<T> = { readonly result: T } | { readonly error: unknown };

/**
 * Does something for each ID, several at once, and yields the results in the order of the IDs. An ID that fails leaves the
 * others alone; only when the control plane cannot be reached are no more tried. The first goes alone, so that nothing
 * else is tried of a control plane that is not there.
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
  let unreachable = false;
  let tried = 0;
  let width = 1;
  const underWay: { readonly id: string; readonly outcome: Promise<Outcome<T>> }[] = [];
  const outcomeOf = async (id: string): Promise<Outcome<T>> => {
    try {
      return { result: await call(id) };
    } catch (error) {
      if (isUnavailable(error)) unreachable = true;
      return { error };
    }
  };
  for (;;) {
    while (!unreachable && !context.signal.aborted && underWay.length < width && tried < ids.length) {
      const id = ids[tried++] as string;
      underWay.push({ id, outcome: outcomeOf(id) });
    }
    const next = underWay.shift();
    if (!next) break;
    const outcome = await next.outcome;
    width = AT_ONCE;
    if ("result" in outcome) {
      succeeded++;
      yield outcome.result;
      continue;
    }
    context.signal.throwIfAborted();
    if (ids.length === 1) throw outcome.error;
    const report = reportOf(outcome.error, endpoint);
    failures.push(`${next.id}: ${report.message}`, ...report.details.map((detail) => `  ${detail}`));
    exitCode = report.exitCode;
  }
  if (tried < ids.length) {
    context.signal.throwIfAborted();
    failures.push(`not tried: ${ids.slice(tried).join(" ")}`);
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
