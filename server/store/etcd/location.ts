import { readFile } from "node:fs/promises";
import { formatAddress, parseAddress } from "../../../common/address.ts";
import { checkPrefix } from "../validation.ts";
import type { EtcdStoreOptions } from "./etcd-store.ts";

/** An etcd location, read but not yet opened. */
export interface EtcdLocation {
  /** host:port of each member. */
  readonly endpoints: readonly string[];
  /** Under which all keys lie, with a slash at the end; absent for the default. */
  readonly prefix?: string;
  /** Whether the members are talked to over TLS. */
  readonly tls: boolean;
  /** PEM files. */
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly user?: string;
  readonly passwordFile?: string;
}

const DEFAULT_PORT = 2379;
const OPTIONS = ["tls", "ca", "cert", "key", "user", "password-file"];
const FORM =
  "etcd://host:port[,host:port…][/prefix][?ca=FILE&cert=FILE&key=FILE&user=NAME&password-file=FILE]";

/**
 * Reads `etcd://host:port[,host:port…][/prefix]` with its options: `tls` (system authorities), `ca`, `cert` and `key`
 * (PEM files; each implies TLS), `user` and `password-file`. The port is 2379 unless given.
 * @throws {TypeError} that says what is wrong with the text
 */
export function parseEtcdLocation(location: string): EtcdLocation {
  const match = /^etcd:\/\/(?<hosts>[^/?#]+)(?<path>\/[^?#]*)?(?:\?(?<query>[^#]*))?$/.exec(location);
  const { hosts, path = "", query = "" } = match?.groups ?? {};
  if (hosts === undefined) throw wrong(location, `write ${FORM}`);
  if (hosts.includes("@"))
    throw wrong(location, "give the password in a file: ?user=NAME&password-file=FILE");
  const parameters = new URLSearchParams(query);
  for (const name of parameters.keys()) {
    if (!OPTIONS.includes(name))
      throw wrong(location, `there is no option ${name}, only ${OPTIONS.join(", ")}`);
    if (parameters.getAll(name).length > 1) throw wrong(location, `${name} is given twice`);
    if (name !== "tls" && parameters.get(name) === "") throw wrong(location, `${name} is empty`);
  }
  const both = (one: string, other: string) => {
    if (parameters.has(one) !== parameters.has(other))
      throw wrong(location, `${one} and ${other} go together`);
  };
  both("cert", "key");
  both("user", "password-file");
  const tls = parameters.get("tls") ?? (parameters.has("ca") || parameters.has("cert") ? "true" : "false");
  if (!["", "true", "false"].includes(tls)) throw wrong(location, "tls is true or false");
  if (tls === "false" && (parameters.has("ca") || parameters.has("cert"))) {
    throw wrong(location, "ca, cert and key are for TLS, which tls=false switches off");
  }
  const prefix = parsePrefix(location, path);
  return {
    endpoints: hosts.split(",").map((host) => parseEndpoint(location, host)),
    tls: tls !== "false",
    ...(prefix === undefined ? {} : { prefix }),
    ...optional("ca", parameters.get("ca")),
    ...optional("cert", parameters.get("cert")),
    ...optional("key", parameters.get("key")),
    ...optional("user", parameters.get("user")),
    ...optional("passwordFile", parameters.get("password-file")),
  };
}

function optional<K extends string>(name: K, value: string | null): { [P in K]?: string } {
  const given: { [P in K]?: string } = {};
  if (value !== null) given[name] = value;
  return given;
}

function parseEndpoint(location: string, text: string): string {
  const hasPort = /:\d+$/.test(text) && !/^[^[].*:.*:/.test(text);
  try {
    const { host, port } = parseAddress(hasPort ? text : `${text}:${DEFAULT_PORT}`);
    if (port === 0 || text.startsWith(":") || text === "")
      throw new TypeError("a host and a port are needed");
    return formatAddress(host, port);
  } catch (err) {
    throw wrong(location, `${JSON.stringify(text)} is not host:port`, err);
  }
}

function parsePrefix(location: string, path: string): string | undefined {
  let prefix: string;
  try {
    prefix = decodeURIComponent(path.replace(/^\/+|\/+$/g, ""));
    checkPrefix(prefix);
  } catch (err) {
    throw wrong(location, "its prefix cannot be one of keys", err);
  }
  return prefix === "" ? undefined : `${prefix}/`;
}

function wrong(location: string, why: string, cause?: unknown) {
  return new TypeError(`not a store: ${JSON.stringify(location)}; ${why}`, { cause });
}

/** Reads the files that a location names. @throws {Error} when one cannot be read */
export async function readEtcdFiles(location: EtcdLocation): Promise<Pick<EtcdStoreOptions, "tls" | "auth">> {
  const { tls, user, passwordFile } = location;
  const [ca, cert, key, password] = await Promise.all(
    [location.ca, location.cert, location.key, passwordFile].map((path) =>
      path === undefined ? undefined : readFile(path),
    ),
  );
  return {
    ...(tls ? { tls: { ...(ca ? { ca } : {}), ...(cert ? { cert } : {}), ...(key ? { key } : {}) } } : {}),
    // Editors end files with a newline; no password has one.
    ...(user !== undefined && password
      ? { auth: { user, password: password.toString().replace(/\r?\n$/, "") } }
      : {}),
  };
}
