import { Command } from "commander";
import { agentCommand } from "./commands/agent.ts";
import { cancelCommand } from "./commands/cancel.ts";
import { configCommand } from "./commands/config.ts";
import { cordonCommand } from "./commands/cordon.ts";
import { createCommand } from "./commands/create.ts";
import { demoCommand } from "./commands/demo.ts";
import { dispatcherCommand } from "./commands/dispatcher.ts";
import { drainCommand } from "./commands/drain.ts";
import { endCommand } from "./commands/end.ts";
import { getCommand } from "./commands/get.ts";
import { importCommand } from "./commands/import.ts";
import { releaseBrakeCommand } from "./commands/release-brake.ts";
import { removeCommand } from "./commands/remove.ts";
import { requeueCommand } from "./commands/requeue.ts";
import { roomServerCommand } from "./commands/room-server.ts";
import { uncordonCommand } from "./commands/uncordon.ts";
import { versionCommand } from "./commands/version.ts";
import { watchCommand } from "./commands/watch.ts";
import type { CliContext } from "./context.ts";
import { endpointOption } from "./options.ts";
import { readVersion } from "./version.ts";

/** The help group of commands for operators. */
export const OPERATE = "Operate:";

/**
 * The `convoke` program, ready to parse a command line; `runCli` does so and turns what happens into an exit code.
 * @param extraCommands commands from elsewhere, such as `serve`, listed with those that run processes unless their help
 * group is `OPERATE`
 */
export function createCli(context: CliContext, extraCommands: readonly Command[] = []): Command {
  const program = new Command("convoke")
    .description("Shares the dispatching of conferences among several dispatchers, fairly and safely.")
    .usage("<command> [options]")
    .version(readVersion(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print help, also for each command")
    .commandsGroup("Other:")
    .helpCommand("help [command]", "print help for a command")
    .addOption(endpointOption())
    .addHelpText("after", EPILOGUE);
  const groups: readonly [string, readonly Command[]][] = [
    [
      "Run a process:",
      [
        demoCommand(context),
        ...extraCommands.filter((command) => command.helpGroup() !== OPERATE),
        dispatcherCommand(context),
        agentCommand(context),
        roomServerCommand(context),
      ],
    ],
    ["Look:", [getCommand(context), watchCommand(context), configCommand(context)]],
    [
      "Schedule:",
      [
        createCommand(context),
        importCommand(context),
        cancelCommand(context),
        endCommand(context),
        requeueCommand(context),
      ],
    ],
    [
      OPERATE,
      [
        cordonCommand(context),
        drainCommand(context),
        uncordonCommand(context),
        removeCommand(context),
        releaseBrakeCommand(context),
        ...extraCommands.filter((command) => command.helpGroup() === OPERATE),
      ],
    ],
    ["Other:", [versionCommand(context)]],
  ];
  for (const [heading, commands] of groups)
    for (const command of commands) program.addCommand(command.helpGroup(heading));
  settle(program, context);
  return program;
}

/** Gives every command the same behaviour on errors and the same streams; commander does not hand it down by itself. */
function settle(command: Command, context: CliContext): void {
  command.exitOverride().configureHelp({
    subcommandTerm: (child) => [child.name(), ...child.aliases()].join(", "),
    subcommandDescription: (child) => capitalized(child.summary() || child.description()),
  });
  command.configureOutput({
    writeOut: (text) => void context.stdout.write(text),
    writeErr: (text) => void context.stderr.write(text),
    getOutHasColors: () => false,
    getErrHasColors: () => false,
    outputError(text, write) {
      write(`${text.trimEnd()}\nhint: \`${pathOf(command)} --help\` tells how it is used\n`);
    },
  });
  for (const child of command.commands) settle(child, context);
}

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function pathOf(command: Command): string {
  return command.parent ? `${pathOf(command.parent)} ${command.name()}` : command.name();
}

const EPILOGUE = `
Exit codes:
  0    done
  1    the call failed, or what was asked for does not exist
  2    the command line, or what was given with it, is wrong; nothing was done
  3    partly done; the error lines say what was not
  4    the control plane, or its store, cannot be reached; try again
  130  interrupted by Ctrl-C (143 by SIGTERM)

Environment:
  CONVOKE_ENDPOINT   gRPC address of the control plane, or addresses of its replicas, unless --endpoint is given
  CONVOKE_DEBUG      when set, errors come with their stack

Examples:
  convoke serve                                       run a control plane on this machine
  convoke create conference standup --start +5m --duration 15m --participants 12
  convoke get conferences --state active
  convoke get dispatch standup -o json                where to join it
  convoke watch dispatches
  convoke get servers                                 which are well, which are not, and why
  convoke drain s1 --deadline 30m                     empty a server before its maintenance`;
