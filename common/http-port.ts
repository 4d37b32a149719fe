import type { Server } from "node:http";
import { formatAddress, parseAddress } from "./address.ts";

/** Requests are small; a peer that sends its headers slower than this means no good. */
export const HEADERS_TIMEOUT_MS = 10_000;

/**
 * Binds a server to host:port; port 0 takes a free one.
 * @returns host:port as bound
 * @throws {TypeError} when the text is no address
 * @throws {Error} when the address cannot be bound, saying which and why
 */
export async function bindHttp(server: Server, address: string): Promise<string> {
  const { host, port } = parseAddress(address);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (err) =>
      reject(new Error(`cannot listen on ${address}: ${err.message}`, { cause: err })),
    );
    server.listen(port, host, resolve);
  });
  const bound = server.address();
  return formatAddress(host, typeof bound === "object" && bound ? bound.port : port);
}
