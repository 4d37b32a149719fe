import { once } from "node:events";
import { WebSocket } from "ws";

/** A participant in a room of the loopback driver. */
export interface Participant extends Disposable {
  /** What it has heard, in order. */
  readonly heard: readonly string[];
  readonly isConnected: boolean;
  /** How the server disconnected it; undefined while it is connected. */
  readonly cut: { readonly code: number; readonly atMs: number } | undefined;
  say(text: string): void;
}

/** Joins the room at an address of the dispatch table. */
export async function joinRoom(address: string): Promise<Participant> {
  const socket = new WebSocket(address);
  const heard: string[] = [];
  let cut: Participant["cut"];
  socket.on("message", (data) => heard.push(String(data)));
  socket.on("close", (code) => {
    cut = { code, atMs: performance.now() };
  });
  await once(socket, "open");
  // The end is told by "close".
  socket.on("error", () => {});
  return {
    heard,
    get isConnected() {
      return socket.readyState === WebSocket.OPEN;
    },
    get cut() {
      return cut;
    },
    say: (text) => socket.send(text),
    [Symbol.dispose]: () => socket.terminate(),
  };
}
