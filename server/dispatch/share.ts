/**
 * The fair shares of a total, one for each dispatcher in order of rank (their IDs sorted). They add up to the total.
 * With equal weights rank r gets floor(total/N), one more when r < total mod N; so they differ by at most one. With
 * different weights each gets the whole part of its quota, and what is left goes one by one to the largest remainders,
 * lower ranks first (Hamilton's method).
 *
 * @param total a whole number, at least 0
 * @param weights each at least 1; empty gives no shares
 */
export function fairShares(total: number, weights: readonly number[]): number[] {
  const sum = weights.reduce((a, b) => a + b, 0);
  const quotas = weights.map((weight, rank) => {
    const whole = Math.floor((total * weight) / sum);
    // The remainder as a whole number over `sum`, so that equal weights tie exactly.
    return { rank, whole, remainder: total * weight - whole * sum };
  });
  const shares = quotas.map(({ whole }) => whole);
  const left = total - shares.reduce((a, b) => a + b, 0);
  const byRemainder = quotas.toSorted((a, b) => b.remainder - a.remainder || a.rank - b.rank);
  for (const { rank } of byRemainder.slice(0, left)) shares[rank] = (shares[rank] ?? 0) + 1;
  return shares;
}

/**
 * What one rank takes of what is due: first what fell to it in the deal, up to what it is owed; then, where the deal and
 * the debts differ, its part of what nobody is owed by the deal. That rest is cut into blocks in order of rank, so that
 * it stays the same for everyone while others take theirs.
 *
 * @param items in order of start; each falls to exactly one rank as far as there are debts
 * @param owed how many each rank is still owed; at least 0
 * @param rankOf the rank an item fell to, if any
 */
export function handOf<T>(
  rank: number,
  items: Iterable<T>,
  owed: readonly number[],
  rankOf: (item: T) => number | undefined,
): { readonly dealt: T[]; readonly rest: T[] } {
  const open = [...owed];
  const dealt: T[] = [];
  const unowed: T[] = [];
  for (const item of items) {
    const to = rankOf(item);
    const debt = to === undefined ? 0 : (open[to] ?? 0);
    if (to === undefined || debt === 0) {
      unowed.push(item);
      continue;
    }
    open[to] = debt - 1;
    if (to === rank) dealt.push(item);
  }
  const start = open.slice(0, Math.max(0, rank)).reduce((a, b) => a + b, 0);
  return { dealt, rest: unowed.slice(start, start + (open[rank] ?? 0)) };
}
