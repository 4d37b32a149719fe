/** A unit of work that goes on until it is done, fails, or its signal aborts. */
export type Task = (signal: AbortSignal) => Promise<void>;

/**
 * Runs tasks together until all are done. The first to fail stops the rest, all are awaited, and its error is thrown.
 * When `signal` aborts every task is asked to stop; that is no failure, so a task that then rejects is only awaited.
 */
export async function runTasks(signal: AbortSignal, ...tasks: readonly Task[]): Promise<void> {
  const controller = new AbortController();
  const stop = () => controller.abort(signal.reason);
  if (signal.aborted) stop();
  else signal.addEventListener("abort", stop, { once: true });
  let failure: { cause: unknown } | undefined;
  try {
    await Promise.all(
      tasks.map(async (task) => {
        try {
          await task(controller.signal);
        } catch (err) {
          if (controller.signal.aborted) return;
          failure = { cause: err };
          controller.abort(err);
        }
      }),
    );
  } finally {
    signal.removeEventListener("abort", stop);
  }
  if (failure) throw failure.cause;
}
