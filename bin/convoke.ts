import { createProcessContext, ignoreBrokenPipes } from "../client/cli/process-context.ts";
import { runCli } from "../client/cli/run-cli.ts";
import { serveCommand } from "./serve-command.ts";

// The one place that knows both the client and the server.
ignoreBrokenPipes();
const context = createProcessContext();
process.exitCode = await runCli(context, process.argv.slice(2), [serveCommand(context)]);
