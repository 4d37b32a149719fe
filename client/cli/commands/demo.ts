import { Command } from "commander";
import { CliError } from "../cli-error.ts";
import type { CliContext } from "../context.ts";
import type { DemoResult } from "../demo/run-demo.ts";
import { ExitCode } from "../exit-code.ts";
import { integerParser } from "../options.ts";

interface DemoCommandOptions {
  readonly conferences: number;
  readonly dispatchers: number;
  readonly servers: number;
  readonly replicas: number;
  readonly store?: string;
  readonly json?: boolean;
}

/** `convoke demo`: the whole story on this machine, with nothing to install. */
export function demoCommand(context: CliContext): Command {
  return new Command("demo")
    .summary("see it work: real processes on this machine, one of them killed")
    .description(
      "Runs a control plane, dispatchers and agents as processes of their own on free ports, brings a sample calendar to\n" +
        "now, kills a dispatcher with SIGKILL in the middle, lets participants talk in a room, and reads the result back\n" +
        "through the public API. Ends within a minute and leaves nothing behind. Exit code 0 only when no conference was\n" +
        "lost or dispatched twice. With an etcd cluster (--store) it runs several replicas and kills one of them, too.",
    )
    .option("--conferences <n>", "how many conferences", integerParser({ min: 1, max: 20_000 }), 300)
    .option("--dispatchers <n>", "how many dispatchers", integerParser({ min: 1, max: 50 }), 4)
    .option("--servers <n>", "how many conference servers", integerParser({ min: 1, max: 50 }), 6)
    .option("--replicas <n>", "how many control-plane processes", integerParser({ min: 1, max: 9 }), 1)
    .option(
      "--store <location>",
      "where the control plane keeps everything, for several replicas etcd://host:port (default: a directory of the run)",
    )
    .option("--json", "print the figures as one JSON object, on the last line of standard output")
    .action(async ({ json, ...sizes }: DemoCommandOptions) => {
      const [{ runDemo }, { isEmbedded }] = await Promise.all([
        import("../demo/run-demo.ts"),
        import("../demo/control-planes.ts"),
      ]);
      if (sizes.replicas > 1 && isEmbedded(sizes.store)) {
        throw new CliError(
          `${sizes.replicas} replicas need a store that they can share: only one process can open the embedded one`,
          {
            exitCode: ExitCode.usage,
            hint: "name an etcd cluster, such as --store etcd://127.0.0.1:2379, or leave out --replicas",
          },
        );
      }
      const { clock, stderr, isTty, program } = context;
      const result = await runDemo(
        {
          ...sizes,
          ...(context.eraseStore ? { eraseStore: context.eraseStore } : {}),
          program,
          clock,
          stderr,
          isTerminal: isTty.stderr,
        },
        context.signal,
      );
      await context.print(json ? JSON.stringify(result) : summary(result));
      const failures = failuresOf(result, sizes.conferences);
      if (failures.length > 0) throw new CliError(`the demo failed: ${failures.join(", ")}`);
    });
}

function failuresOf(result: DemoResult, expected: number): string[] {
  const failures: string[] = [];
  if (result.lost > 0) failures.push(`${result.lost} conferences lost`);
  if (result.duplicate_dispatches > 0) failures.push(`${result.duplicate_dispatches} dispatched twice`);
  if (result.active !== expected) failures.push(`${result.active} of ${expected} active`);
  if (result.max_share_difference > 1) failures.push(`shares differ by ${result.max_share_difference}`);
  if (!result.participants_heard_each_other) failures.push("participants were cut off");
  return failures;
}

function summary(result: DemoResult): string {
  return [
    "",
    `${result.conferences} conferences, ${result.active} active, ${result.lost} lost, ${result.duplicate_dispatches} dispatched twice`,
    `shares of a round differ by at most ${result.max_share_difference}`,
    `${result.reclaimed_from_dead_dispatcher} conferences of the killed dispatcher were claimed and placed by others`,
    ...(result.replica_killed
      ? [`one of ${result.replicas} replicas was killed; the rest went on, and these figures are theirs`]
      : []),
    `participants in a room ${result.participants_heard_each_other ? "heard each other all along" : "were cut off"}`,
    `${result.seconds} s`,
  ].join("\n");
}
