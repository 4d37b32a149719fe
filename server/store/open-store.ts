import type { Clock } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";
import { createEmbeddedStore } from "./embedded/index.ts";
import type { Store } from "./store.ts";

/**
 * Opens the store that a location names: `embedded:DIR` keeps everything in that directory.
 * @throws {TypeError} when the location is not of a known form
 * @throws {StoreError} when the store cannot be opened
 */
export async function openStore(location: string, options: { clock: Clock; logger: Logger }): Promise<Store> {
  const [scheme, directory] = splitScheme(location);
  if (scheme === "embedded" && directory !== "") return createEmbeddedStore({ directory, ...options });
  throw new TypeError(
    `not a store: ${JSON.stringify(location)}; write embedded:DIR, such as embedded:/var/lib/convoke`,
  );
}

function splitScheme(location: string): [string, string] {
  const colon = location.indexOf(":");
  return colon < 0 ? ["", location] : [location.slice(0, colon), location.slice(colon + 1)];
}
