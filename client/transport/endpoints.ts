import { parseAddress } from "../../common/address.ts";

/** Where the control plane is: `host:port` of one replica, or of several, with commas between or as a list. */
export type Endpoints = string | readonly string[];

/**
 * The replicas' addresses, each once, in the order given.
 * @throws {TypeError} when there is none, or one is not host:port
 */
export function parseEndpoints(endpoints: Endpoints): string[] {
  const texts = typeof endpoints === "string" ? [endpoints] : endpoints;
  const addresses = texts.flatMap((text) => text.split(",")).map((address) => address.trim());
  if (addresses.length === 0)
    throw new TypeError("no endpoint is given; write host:port, such as 127.0.0.1:7400");
  addresses.forEach(parseAddress);
  return [...new Set(addresses)];
}
