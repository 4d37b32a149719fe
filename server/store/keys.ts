/** The keys of the store, under one configurable prefix. */
export interface Keys {
  /** Everything of this deployment. */
  readonly prefix: string;
  readonly round: string;
  /** Where the store was copied from, if it was. */
  readonly origin: string;
  conference(id: string): string;
  dispatcher(id: string): string;
  server(id: string): string;
  reservation(serverId: string): string;
  /** What a key is about; undefined for keys that are not ours. */
  parse(key: string): ParsedKey | undefined;
}

export type ParsedKey =
  | { readonly kind: "conference" | "dispatcher" | "server" | "reservation"; readonly id: string }
  | { readonly kind: "round" };

export const DEFAULT_PREFIX = "convoke/";

const FOLDERS = {
  conferences: "conference",
  dispatchers: "dispatcher",
  servers: "server",
  reservations: "reservation",
} as const;

export function createKeys(prefix: string = DEFAULT_PREFIX): Keys {
  return {
    prefix,
    round: `${prefix}round`,
    origin: `${prefix}origin`,
    conference: (id) => `${prefix}conferences/${id}`,
    dispatcher: (id) => `${prefix}dispatchers/${id}`,
    server: (id) => `${prefix}servers/${id}`,
    reservation: (serverId) => `${prefix}reservations/${serverId}`,
    parse(key) {
      if (!key.startsWith(prefix)) return undefined;
      const path = key.slice(prefix.length);
      if (path === "round") return { kind: "round" };
      const slash = path.indexOf("/");
      const folder = path.slice(0, slash);
      if (slash < 0 || !Object.hasOwn(FOLDERS, folder)) return undefined;
      return { kind: FOLDERS[folder as keyof typeof FOLDERS], id: path.slice(slash + 1) };
    },
  };
}
