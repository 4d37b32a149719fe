import { WebSocket } from "ws";

/** Two participants in a room, who hear each other through the conference server. */
export interface Conversation extends Disposable {
  /** The first says something new and the second must hear it. Rejects when it does not within the deadline. */
  exchange(timeoutMs: number): Promise<void>;
  /** Whether either was ever disconnected. */
  readonly interrupted: boolean;
}

/** Joins two participants at an address from the dispatch table. */
export async function startConversation(address: string, timeoutMs: number): Promise<Conversation> {
  const speaker = new WebSocket(address, { handshakeTimeout: timeoutMs });
  const listener = new WebSocket(address, { handshakeTimeout: timeoutMs });
  let interrupted = false;
  let closing = false;
  for (const participant of [speaker, listener]) {
    participant.on("error", () => {});
    participant.on("close", () => {
      interrupted = interrupted || !closing;
    });
  }
  await Promise.all([opened(speaker, address), opened(listener, address)]);
  let said = 0;
  return {
    get interrupted() {
      return interrupted;
    },
    exchange(limitMs) {
      const words = `can you hear me? (${++said})`;
      return new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          listener.off("message", onMessage);
          reject(new Error(`a participant at ${address} did not hear the other within ${limitMs} ms`));
        }, limitMs);
        const onMessage = (data: unknown) => {
          if (String(data) !== words) return;
          clearTimeout(timer);
          listener.off("message", onMessage);
          resolve();
        };
        listener.on("message", onMessage);
        speaker.send(words);
      });
    },
    [Symbol.dispose]() {
      closing = true;
      speaker.close();
      listener.close();
    },
  };
}

function opened(participant: WebSocket, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    participant.once("open", () => resolve());
    participant.once("error", (err) =>
      reject(new Error(`cannot join ${address}: ${err.message}`, { cause: err })),
    );
  });
}
