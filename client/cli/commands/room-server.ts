import { Command, Option } from "commander";
import type { LogLevel } from "../../../common/logging.ts";
import type { RoomServerOptions } from "../../agent/room-server/room-server.ts";
import { asUsage } from "../as-usage.ts";
import type { CliContext } from "../context.ts";
import { logLevelOption, parseHostPort } from "../options.ts";

interface RoomServerCommandOptions extends RoomServerOptions {
  readonly logLevel: LogLevel;
}

/** `convoke room-server`: hosts the rooms of the loopback driver in a process of their own until it is interrupted. */
export function roomServerCommand(context: CliContext): Command {
  return new Command("room-server")
    .summary("host loopback rooms beside an agent, so that they outlive it")
    .description(
      "A small conference server: WebSocket rooms that relay what participants send. `convoke agent --room-server` drives it\n" +
        "through --control; when that agent is restarted the rooms go on, and when it stays away they end, unless its\n" +
        "policy is `--isolation keep`. Runs until SIGINT or SIGTERM.",
    )
    .addOption(
      new Option("--listen <host:port>", "where participants reach the rooms; port 0 takes a free one")
        .env("CONVOKE_LISTEN")
        .argParser(parseHostPort)
        .default("127.0.0.1:7610"),
    )
    .addOption(
      new Option(
        "--advertise <host:port>",
        "where participants reach them, when not at --listen; port 0: the same",
      )
        .env("CONVOKE_ADVERTISE")
        .argParser(parseHostPort),
    )
    .addOption(
      new Option(
        "--control <host:port>",
        "where its agent calls it, on this machine; port 0 takes a free one",
      )
        .env("CONVOKE_CONTROL")
        .argParser(parseHostPort)
        .default("127.0.0.1:7600"),
    )
    .addOption(logLevelOption().env("CONVOKE_LOG_LEVEL"))
    .addHelpText(
      "after",
      "\nExamples:\n" +
        "  $ convoke room-server\n" +
        "  $ convoke agent --id s1 --capacity 500 --room-server 127.0.0.1:7600",
    )
    .action(async ({ logLevel, ...options }: RoomServerCommandOptions) => {
      const [{ compileRoomServerOptions, runRoomServer }, { createLogger }] = await Promise.all([
        import("../../agent/room-server/room-server.ts"),
        import("../../../common/logging.ts"),
      ]);
      asUsage(() => compileRoomServerOptions(options));
      const logger = createLogger("room-server", logLevel);
      await runRoomServer(options, { logger, clock: context.clock }, context.signal);
    });
}
