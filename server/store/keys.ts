/** The keys of the store, under one configurable prefix. */
export interface Keys {
  /** Everything of this deployment. */
  readonly prefix: string;
  readonly round: string;
  /** Where the store was copied from, if it was. */
  readonly origin: string;
  /** What operators decided about the brake; rewritten with every verdict of DOWN, so that these come one after another. */
  readonly brake: string;
  conference(id: string): string;
  dispatcher(id: string): string;
  server(id: string): string;
  reservation(serverId: string): string;
  observation(serverId: string, dispatcherId: string): string;
  observer(dispatcherId: string): string;
  /** What a key is about; undefined for keys that are not ours. */
  parse(key: string): ParsedKey | undefined;
}

export type ParsedKey =
  | {
      readonly kind: "conference" | "dispatcher" | "server" | "reservation" | "observer";
      readonly id: string;
    }
  | { readonly kind: "observation"; readonly serverId: string; readonly dispatcherId: string }
  | { readonly kind: "round" | "brake" };

export const DEFAULT_PREFIX = "convoke/";

const FOLDERS = {
  conferences: "conference",
  dispatchers: "dispatcher",
  servers: "server",
  reservations: "reservation",
  observers: "observer",
} as const;

const OBSERVATIONS = "observations";

export function createKeys(prefix: string = DEFAULT_PREFIX): Keys {
  return {
    prefix,
    round: `${prefix}round`,
    origin: `${prefix}origin`,
    brake: `${prefix}brake`,
    conference: (id) => `${prefix}conferences/${id}`,
    dispatcher: (id) => `${prefix}dispatchers/${id}`,
    server: (id) => `${prefix}servers/${id}`,
    reservation: (serverId) => `${prefix}reservations/${serverId}`,
    observation: (serverId, dispatcherId) => `${prefix}${OBSERVATIONS}/${serverId}/${dispatcherId}`,
    observer: (dispatcherId) => `${prefix}observers/${dispatcherId}`,
    parse(key) {
      if (!key.startsWith(prefix)) return undefined;
      const path = key.slice(prefix.length);
      if (path === "round" || path === "brake") return { kind: path };
      const slash = path.indexOf("/");
      const folder = path.slice(0, slash);
      if (folder === OBSERVATIONS) {
        const [, serverId, dispatcherId] = path.split("/");
        return serverId && dispatcherId ? { kind: "observation", serverId, dispatcherId } : undefined;
      }
      if (slash < 0 || !Object.hasOwn(FOLDERS, folder)) return undefined;
      return { kind: FOLDERS[folder as keyof typeof FOLDERS], id: path.slice(slash + 1) };
    },
  };
}
