import { runTasks, type Task } from "../../common/run-tasks.ts";

/**
 * Runs `main` with companions that go on as long as it does: they are stopped when it is done, and awaited. The first to
 * fail stops the others, `main` through its signal, and its error is thrown.
 */
export async function runBeside(main: Task, ...companions: readonly Task[]): Promise<void> {
  const over = new AbortController();
  let failure: { cause: unknown } | undefined;
  await runTasks(
    over.signal,
    async (signal) => {
      try {
        await main(signal);
      } catch (err) {
        failure = { cause: err };
      }
      over.abort();
    },
    ...companions,
  );
  if (failure) throw failure.cause;
}
