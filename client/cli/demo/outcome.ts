import type { DemoResult, RunFigures } from "./run-demo.ts";
import type { ServerStoryResult } from "./server-story.ts";

/** What a run has promised and not kept, for people; empty when all is well. Speed is told and not judged. */
export function failuresOf(result: DemoResult, expected: number): string[] {
  const failures: string[] = [];
  if (result.lost > 0) failures.push(`${result.lost} conferences lost`);
  if (result.duplicate_dispatches > 0) failures.push(`${result.duplicate_dispatches} dispatched twice`);
  if (result.active !== expected) failures.push(`${result.active} of ${expected} active`);
  // On a machine that stalls, dispatchers leave what is theirs to others, and that is as it should be.
  if (result.max_share_difference > 1 && result.taken_over === 0)
    failures.push(`shares differ by ${result.max_share_difference}`);
  if (!result.participants_heard_each_other) failures.push("participants were cut off");
  if ("blow" in result) failures.push(...serverFailuresOf(result));
  return failures;
}

function serverFailuresOf(result: ServerStoryResult): string[] {
  const failures: string[] = [];
  const { moved_from_killed_server: moved, conferences_on_killed_server: hosted } = result;
  if (moved !== hosted) failures.push(`${moved} of ${hosted} conferences of ${result.killed_server} moved`);
  if (result.unplaced > 0) failures.push(`${result.unplaced} conferences are nowhere`);
  if (result.others_moved > 0) failures.push(`${result.others_moved} conferences of other servers moved`);
  if (result.participants_followed !== result.participants)
    failures.push(`${result.participants_followed} of ${result.participants} participants followed`);
  if (result.resumed_server_hosts !== null && result.resumed_server_hosts !== 0)
    failures.push(`the resumed server hosts ${result.resumed_server_hosts} conferences`);
  const { old_connections: kept, old_connections_cut: cut } = result;
  if (cut !== kept) failures.push(`${cut} of ${kept} participants were cut from the rooms they had left`);
  return failures;
}

/** The figures in words. */
export function summaryOf(result: DemoResult): string {
  return [
    "",
    `${result.conferences} conferences, ${result.active} active, ${result.lost} lost, ${result.duplicate_dispatches} dispatched twice`,
    `shares of a round differ by at most ${result.max_share_difference}` +
      (result.taken_over > 0 ? `; ${result.taken_over} conferences were left too long and taken over` : ""),
    ...("blow" in result ? serverWords(result) : dispatcherWords(result)),
    `${result.seconds} s`,
  ].join("\n");
}

function dispatcherWords(result: Exclude<DemoResult, ServerStoryResult & RunFigures>): string[] {
  return [
    `${result.reclaimed_from_dead_dispatcher} conferences of the killed dispatcher were claimed and placed by others`,
    ...(result.replica_killed
      ? [`one of ${result.replicas} replicas was killed; the rest went on, and these figures are theirs`]
      : []),
    `participants in a room ${result.participants_heard_each_other ? "heard each other all along" : "were cut off"}`,
  ];
}

function serverWords(result: ServerStoryResult & RunFigures): string[] {
  const { killed_server: id, participants, participants_followed: followed } = result;
  return [
    `server ${id} of ${result.servers} was ${result.blow === "kill" ? "killed" : "frozen"}: ` +
      `${result.moved_from_killed_server} of its ${result.conferences_on_killed_server} conferences are on other servers, ` +
      `and ${result.others_moved} conferences of other servers have moved`,
    `DOWN after ${msText(result.verdict_ms)}; new rows could be read after ${msText(result.failover_p50_ms)} (half), ` +
      `${msText(result.failover_p99_ms)} (99 %), ${msText(result.failover_max_ms)} (all)`,
    `${followed} of ${participants} participants followed by themselves; the longest silence was ${result.longest_silence_ms} ms`,
    ...(result.resumed_server_hosts === null
      ? []
      : [
          `let go on, ${id} hosts ${result.resumed_server_hosts} conferences; it cut ${result.old_connections_cut} of ` +
            `${result.old_connections} connections that were left behind, the last after ${msText(result.old_connections_cut_ms)}`,
        ]),
    `participants on another server ${result.participants_heard_each_other ? "heard each other all along" : "were cut off"}`,
  ];
}

function msText(ms: number | null): string {
  return ms === null ? "–" : `${ms} ms`;
}
