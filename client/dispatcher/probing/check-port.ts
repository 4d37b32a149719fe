import { connect } from "node:net";
import { parseAddress } from "../../../common/address.ts";

/**
 * What becomes of a connection to a port: `open` when it is accepted, `refused` when the machine says that nothing listens
 * there, `silent` when nothing comes back in time, `unreachable` when there is no way there.
 */
export type PortState = "open" | "refused" | "silent" | "unreachable";

/** Connects to host:port and closes at once. Never rejects; an abort counts as silence. */
export type CheckPort = (address: string, timeoutMs: number, signal: AbortSignal) => Promise<PortState>;

/**
 * Asks TCP itself. What an RPC library makes of a failed connection is a text, and one that waits before it connects again
 * says nothing about the port as it is now.
 */
export const checkPort: CheckPort = (address, timeoutMs, signal) => {
  const { host, port } = parseAddress(address);
  return new Promise((resolve) => {
    if (signal.aborted) return resolve("silent");
    const socket = connect({ host, port });
    const settle = (state: PortState) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      socket.destroy();
      resolve(state);
    };
    const onAbort = () => settle("silent");
    const timer = setTimeout(() => settle("silent"), timeoutMs);
    signal.addEventListener("abort", onAbort, { once: true });
    socket.once("connect", () => settle("open"));
    socket.on("error", (err: NodeJS.ErrnoException) =>
      settle(err.code === "ECONNREFUSED" ? "refused" : err.code === "ETIMEDOUT" ? "silent" : "unreachable"),
    );
  });
};
