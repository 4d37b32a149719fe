import { Duplex } from "node:stream";
import type { IDuplexStream, IWatchCreateRequest, IWatchRequest, IWatchResponse } from "etcd3";

/** One watcher on a stream of its own. */
export interface WatchStream extends Disposable {
  /**
   * The next response. One at a time: what is not asked for stays with etcd, save some responses on the way.
   * Rejects when the stream has broken or ended.
   */
  read(): Promise<IWatchResponse>;
  /** Asks for a sign of life. */
  requestProgress(): void;
}

/** Creates the watcher on a new stream, which ends when it is disposed of or the signal aborts. */
export function startWatchStream(
  raw: IDuplexStream<IWatchRequest, IWatchResponse>,
  request: IWatchCreateRequest,
  signal: AbortSignal,
): WatchStream {
  if (!(raw instanceof Duplex)) throw new TypeError("not a stream that can be slowed down");
  const responses: AsyncIterator<IWatchResponse> = raw[Symbol.asyncIterator]();
  const cancel = () => raw.cancel();
  signal.addEventListener("abort", cancel, { once: true });
  if (signal.aborted) cancel();
  else raw.write({ create_request: request });
  return {
    async read() {
      const { value, done } = await responses.next();
      if (done) throw new Error("etcd ended the watch");
      return value;
    },
    requestProgress() {
      raw.write({ progress_request: {} });
    },
    [Symbol.dispose]() {
      signal.removeEventListener("abort", cancel);
      cancel();
    },
  };
}
