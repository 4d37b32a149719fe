import { compileDetection, type DetectionSettings } from "../common/detection.ts";

/** What decides how the control plane behaves, in units that need no second thought. */
export interface Settings {
  /** How long a dispatch stays valid after the conference's scheduled end. */
  readonly graceMs: number;
  /** How long a conference may be left by the dispatcher it fell to before others may take it. */
  readonly takeoverMs: number;
  /** How many failed placements make a conference FAILED. */
  readonly maxFailedAttempts: number;
  /** How long conferences are kept after they are over. */
  readonly retentionMs: number;
  /** How far apart the views of replicas on one store may be, before shares are no longer exact. 0 for one replica. */
  readonly replicaLagMs: number;
  /** How many conferences may be on their way from one server to another at a time; drains take half of it at most. */
  readonly moveBudget: number;
  /** How failures of conference servers are found out; handed out to dispatchers and agents. */
  readonly detection: DetectionSettings;
}

export const DEFAULT_SETTINGS: Settings = {
  // Meetings run over; five minutes is what calendars leave between back-to-back ones.
  graceMs: 5 * 60_000,
  // Two of the dispatchers' default ticks: one that lives has asked by then.
  takeoverMs: 2_000,
  // With delays doubling from 1 s, five tries span half a minute: longer than a restart of a server takes.
  maxFailedAttempts: 5,
  // A week answers most questions about what happened.
  retentionMs: 7 * 24 * 3_600_000,
  // The embedded store has one replica.
  replicaLagMs: 0,
  // All conferences of a busy server at once: with half of it, a thousand took twice as long in two waves.
  moveBudget: 1_000,
  detection: compileDetection(),
};

/** Limits of requests, as documented in the contracts. */
export const LIMITS = {
  defaultWindowMs: 10 * 60_000,
  maxWindowMs: 24 * 3_600_000,
  minTtlMs: 1_000,
  maxTtlMs: 10 * 60_000,
  // Below this a leader change of etcd, a gap of about 2 s, ends registrations.
  defaultTtlMs: 5_000,
  maxFetchWaitMs: 60_000,
  maxTasks: 100_000,
  tasksPerMessage: 100,
  maxDrainMs: 24 * 3_600_000,
  maxRestartMs: 5 * 60_000,
  minReleaseMs: 1_000,
  maxReleaseMs: 3_600_000,
  defaultReleaseMs: 5 * 60_000,
  maxBatch: 1_000,
  defaultPageSize: 100,
  maxPageSize: 1_000,
} as const;
