import { CliError } from "./cli-error.ts";
import { ExitCode } from "./exit-code.ts";
import { collectLabel } from "./options.ts";

/** What is wrong with an option is the caller's mistake, whichever part finds it. */
export function asUsage<T>(read: () => T): T {
  try {
    return read();
  } catch (err) {
    const message = err instanceof Error ? err.message : String(err);
    throw new CliError(message, { exitCode: ExitCode.usage, cause: err });
  }
}

/** Labels as an environment variable has them: `key=value,key=value`; none when it is not set. */
export function labelsFromEnvironment(text: string | undefined): Record<string, string> {
  if (!text) return {};
  return asUsage(() =>
    text.split(",").reduce<Record<string, string>>((labels, item) => collectLabel(item.trim(), labels), {}),
  );
}
