import { Command, Option } from "commander";
import { CliError } from "../cli-error.ts";
import type { CliContext } from "../context.ts";
import { ExitCode } from "../exit-code.ts";
import { integerParser } from "../options.ts";

interface DemoCommandOptions {
  readonly conferences?: number;
  readonly dispatchers: number;
  readonly servers?: number;
  readonly replicas: number;
  readonly killServer?: boolean;
  readonly freezeServer?: boolean;
  readonly store?: string;
  readonly logs?: string;
  readonly json?: boolean;
}

const SIZES = { conferences: 300, servers: 6 };
/** So many that the server that is lost hosts a thousand. */
const SERVER_SIZES = { conferences: 8_000, servers: 8 };

/** `convoke demo`: the whole story on this machine, with nothing to install. */
export function demoCommand(context: CliContext): Command {
  return new Command("demo")
    .summary("see it work: real processes on this machine, one of them killed")
    .description(
      "Runs a control plane, dispatchers and agents as processes of their own on free ports, brings a sample calendar to\n" +
        "now, kills a dispatcher with SIGKILL in the middle, lets participants talk in a room, and reads the result back\n" +
        "through the public API. Ends within a minute and leaves nothing behind. Exit code 0 only when no conference was\n" +
        "lost or dispatched twice. With an etcd cluster (--store) it runs several replicas and kills one of them, too.\n\n" +
        "With --kill-server or --freeze-server it is a conference server that is lost, once everything is placed: its\n" +
        "conferences move to the others, participants go with them, and how long that took is measured by a client.",
    )
    .option(
      "--conferences <n>",
      `how many conferences (default: ${SIZES.conferences}; ${SERVER_SIZES.conferences} when a server is lost)`,
      integerParser({ min: 1, max: 20_000 }),
    )
    .option("--dispatchers <n>", "how many dispatchers", integerParser({ min: 1, max: 50 }), 4)
    .option(
      "--servers <n>",
      `how many conference servers (default: ${SIZES.servers}; ${SERVER_SIZES.servers} when one is lost)`,
      integerParser({ min: 1, max: 50 }),
    )
    .option("--replicas <n>", "how many control-plane processes", integerParser({ min: 1, max: 9 }), 1)
    .option("--kill-server", "kill a conference server with SIGKILL instead of a dispatcher")
    .addOption(
      new Option(
        "--freeze-server",
        "stop one with SIGSTOP, as a machine that hangs, and let it go on afterwards",
      ).conflicts("killServer"),
    )
    .option(
      "--store <location>",
      "where the control plane keeps everything, for several replicas etcd://host:port (default: a directory of the run)",
    )
    .option("--logs <directory>", "keep the logs of all processes there, with every detail")
    .option("--json", "print the figures as one JSON object, on the last line of standard output")
    .action(async ({ json, killServer, freezeServer, ...given }: DemoCommandOptions) => {
      const [{ runDemo }, { isEmbedded }, { failuresOf, summaryOf }] = await Promise.all([
        import("../demo/run-demo.ts"),
        import("../demo/control-planes.ts"),
        import("../demo/outcome.ts"),
      ]);
      if (given.replicas > 1 && isEmbedded(given.store)) {
        throw new CliError(
          `${given.replicas} replicas need a store that they can share: only one process can open the embedded one`,
          {
            exitCode: ExitCode.usage,
            hint: "name an etcd cluster, such as --store etcd://127.0.0.1:2379, or leave out --replicas",
          },
        );
      }
      const blow = killServer ? "kill" : freezeServer ? "freeze" : undefined;
      const sizes = { ...(blow ? SERVER_SIZES : SIZES), ...given };
      if (blow && sizes.servers < 2) {
        throw new CliError("the conferences of the only server have nowhere to go", {
          exitCode: ExitCode.usage,
          hint: "give --servers 2 or more",
        });
      }
      const { clock, stderr, isTty, program } = context;
      const result = await runDemo(
        {
          ...sizes,
          ...(blow ? { blow } : {}),
          ...(context.eraseStore ? { eraseStore: context.eraseStore } : {}),
          program,
          clock,
          stderr,
          isTerminal: isTty.stderr,
        },
        context.signal,
      );
      await context.print(json ? JSON.stringify(result) : summaryOf(result));
      const failures = failuresOf(result, sizes.conferences);
      if (failures.length > 0) throw new CliError(`the demo failed: ${failures.join(", ")}`);
    });
}
