import { createProcessContext, ignoreBrokenPipes } from "../client/cli/process-context.ts";
import { runCli } from "../client/cli/run-cli.ts";
import { serveCommand } from "./serve-command.ts";
import { storeCommand } from "./store-command.ts";

// The one place that knows both the client and the server.
ignoreBrokenPipes();
const context = Object.assign(createProcessContext(), {
  async eraseStore(location: string) {
    const [{ createLogger }, { systemClock }, store] = await Promise.all([
      import("../common/logging.ts"),
      import("../common/clock.ts"),
      import("../server/store/erase-store.ts"),
    ]);
    await store.eraseStore(location, { clock: systemClock, logger: createLogger("convoke", "error") });
  },
});
process.exitCode = await runCli(context, process.argv.slice(2), [
  serveCommand(context),
  storeCommand(context),
]);
