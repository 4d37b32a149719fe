/**
 * Rendezvous hashing (highest random weight): every key ranks all members by a hash of both, so everyone who knows the
 * members agrees on the ranking, and a member that joins or leaves moves only the keys that it ranks high for.
 */

/** The `count` members that rank highest for a key, the highest first; all, when there are fewer. */
export function highestRanked(key: string, members: Iterable<string>, count: number): string[] {
  const ranked = [...members].map((member) => ({ member, score: scoreOf(key, member) }));
  ranked.sort((a, b) => b.score - a.score || (a.member < b.member ? -1 : 1));
  return ranked.slice(0, count).map(({ member }) => member);
}

function scoreOf(key: string, member: string): number {
  return mixed(hashOf(`${member}/${key}`));
}

/** FNV-1a, 32 bits. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193) >>> 0;
  }
  return hash;
}

/** MurmurHash3's finalizer: FNV alone ranks texts that differ in their last letters alike. */
function mixed(hash: number): number {
  let bits = hash;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
