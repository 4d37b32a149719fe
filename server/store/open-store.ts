import type { Clock } from "../../common/clock.ts";
import type { Logger } from "../../common/logging.ts";
import { createKeys, DEFAULT_PREFIX } from "./keys.ts";
import { openAtOrigin } from "./origin.ts";
import type { Store } from "./store.ts";

/** A store, and where in it a deployment keeps its keys. */
export interface OpenedStore {
  readonly store: Store;
  /** Under which all keys lie, for `createKeys`. */
  readonly prefix: string;
}

/**
 * Opens the store that a location names: `embedded:DIR` keeps everything in that directory,
 * `etcd://host:port[,host:port…][/prefix]` in an etcd cluster, which need not be reachable yet (its options are those of
 * `parseEtcdLocation`). One that was filled by a copy carries on with the revisions of its source; see `openAtOrigin`.
 * @throws {TypeError} when the location is not of a known form
 * @throws {StoreError} when the store cannot be opened
 * @throws {Error} when a file that the location names cannot be read
 */
export async function openStore(
  location: string,
  options: { clock: Clock; logger: Logger },
): Promise<OpenedStore> {
  const { store, prefix } = await openEngine(location, options);
  return { store: openAtOrigin(store, createKeys(prefix)), prefix };
}

async function openEngine(location: string, options: { clock: Clock; logger: Logger }): Promise<OpenedStore> {
  const [scheme, rest] = splitScheme(location);
  // Each engine is loaded when it is used: one brings a native library, the other all of etcd's protocol.
  if (scheme === "embedded" && rest !== "") {
    const { createEmbeddedStore } = await import("./embedded/index.ts");
    return { store: await createEmbeddedStore({ directory: rest, ...options }), prefix: DEFAULT_PREFIX };
  }
  if (scheme === "etcd") {
    const { createEtcdStore, parseEtcdLocation, readEtcdFiles } = await import("./etcd/index.ts");
    const parsed = parseEtcdLocation(location);
    const files = await readEtcdFiles(parsed);
    const store = createEtcdStore({ endpoints: parsed.endpoints, ...files, ...options });
    return { store, prefix: parsed.prefix ?? DEFAULT_PREFIX };
  }
  throw new TypeError(
    `not a store: ${JSON.stringify(location)}; write embedded:DIR, such as embedded:/var/lib/convoke, ` +
      "or etcd://HOST:PORT, such as etcd://127.0.0.1:2379",
  );
}

function splitScheme(location: string): [string, string] {
  const colon = location.indexOf(":");
  return colon < 0 ? ["", location] : [location.slice(0, colon), location.slice(colon + 1)];
}
