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
 * Deals out items in turn, rank 0 first, passing over ranks that have what they are owed, and returns those that fall
 * to one rank. At one revision every rank computes the same deal, so no two take the same item; and each gets early
 * ones and late ones alike. With equal debts position p falls to rank p mod N.
 *
 * @param items in order of start
 * @param owed how many each rank is still owed; at least 0
 */
export function dealtTo<T>(rank: number, items: Iterable<T>, owed: readonly number[]): T[] {
  const left = [...owed];
  const mine: T[] = [];
  let turn = 0;
  let open = left.filter((count) => count > 0).length;
  for (const item of items) {
    if (open === 0 || left[rank] === 0) break;
    while (!left[turn]) turn = (turn + 1) % left.length;
    const rest = (left[turn] ?? 0) - 1;
    left[turn] = rest;
    if (rest === 0) open -= 1;
    if (turn === rank) mine.push(item);
    turn = (turn + 1) % left.length;
  }
  return mine;
}
