/**
 * Whether a member answers a progress request in line with the events: only then does the answer's revision say that
 * everything up to it has been sent. Before, the answer could overtake events, or come while the watcher still caught up
 * (etcd issue 15220); and the first repair left it out for watchers without events (etcd pull request 17557, in 3.4.31
 * and 3.5.13). Notifications that etcd sends on its own have always been in line.
 */
export function answersInLine(version: string): boolean {
  const [major = 0, minor = 0, patch = 0] = version.split(/[.+-]/).map(Number);
  if (major !== 3) return major > 3;
  if (minor === 4) return patch >= 31;
  if (minor === 5) return patch >= 13;
  return minor > 5;
}
