import { seededRandom } from "../support/seeded-random.ts";

/** Choices that depend on a seed alone. */
export interface Chance {
  /** In [0, 1). */
  readonly next: () => number;
  /** Whether something of this probability happens. */
  happens(probability: number): boolean;
  /** Within [from, to). */
  between(from: number, to: number): number;
  /** A whole number within [from, to]. */
  whole(from: number, to: number): number;
  /** One of these; there must be one. */
  pick<T>(items: readonly T[]): T;
  /** `count` of these, or all, in random order. */
  some<T>(items: readonly T[], count: number): T[];
  /** Other choices that follow from this seed and the name, however many are made here. */
  fork(name: string): Chance;
}

export function createChance(seed: number): Chance {
  const next = seededRandom(mixed(seed));
  // The first numbers of neighbouring seeds are alike.
  for (let round = 0; round < 8; round++) next();
  const chance: Chance = {
    next,
    happens: (probability) => next() < probability,
    between: (from, to) => from + (to - from) * next(),
    whole: (from, to) => from + Math.floor((to - from + 1) * next()),
    pick<T>(items: readonly T[]) {
      return items[Math.floor(items.length * next())] as T;
    },
    some(items, count) {
      const left = [...items];
      const taken: typeof left = [];
      while (left.length > 0 && taken.length < count) {
        taken.push(...left.splice(Math.floor(left.length * next()), 1));
      }
      return taken;
    },
    fork(name) {
      let hash = mixed(seed);
      for (let index = 0; index < name.length; index++) {
        hash = Math.imul(hash ^ name.charCodeAt(index), 0x01000193) >>> 0;
      }
      return createChance(hash);
    },
  };
  return chance;
}

/** MurmurHash3's finalizer: seeds that differ in one bit give numbers that differ in half of theirs. */
function mixed(seed: number): number {
  let bits = (seed + 0x9e3779b9) >>> 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
