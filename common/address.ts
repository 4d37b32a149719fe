/** A network address in its two parts. */
export interface Address {
  readonly host: string;
  /** 0 asks for a free port. */
  readonly port: number;
}

/**
 * Reads `host:port`, `[ipv6]:port` or `:port` (all interfaces).
 * @throws {TypeError} that says what is wrong with the text
 */
export function parseAddress(text: string): Address {
  const match = /^(?:\[(?<v6>[0-9a-fA-F:.]+)\]|(?<host>[^\s:[\]]*)):(?<port>\d{1,5})$/.exec(text);
  const port = Number(match?.groups?.port);
  if (!match || port > 65_535) {
    throw new TypeError(`not an address: ${JSON.stringify(text)}; write host:port, such as 127.0.0.1:7400`);
  }
  return { host: match.groups?.v6 ?? (match.groups?.host || "0.0.0.0"), port };
}

/** The text form, with IPv6 hosts in brackets. */
export function formatAddress(host: string, port: number): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** Whether a host stands for all interfaces: one can listen there, and nobody can call it. */
export function isAnyHost(host: string): boolean {
  return host === "0.0.0.0" || /^[0:]+$/.test(host);
}
