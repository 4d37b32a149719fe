/** Against hanging, not a measure of speed: only a failing test waits for it. */
export const DEADLINE_MS = 30_000;

/** Fails instead of hanging. */
export async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`not in time: ${what}`)), DEADLINE_MS);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits until the condition holds, asking again and again. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new Error(`still not so: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
