import { Agent, request } from "node:http";
import { parseAddress } from "../../../common/address.ts";

/** A call of a room server's control failed. */
export class ControlError extends Error {
  override readonly name = "ControlError";
  /** The HTTP status; 0 when there was no answer. */
  readonly status: number;
  /** Whether nobody listens there. */
  readonly isRefused: boolean;

  constructor(message: string, options: { status?: number; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.status = options.status ?? 0;
    const { cause } = options;
    this.isRefused = cause instanceof Error && "code" in cause && cause.code === "ECONNREFUSED";
  }
}

export interface ControlClient {
  /**
   * POSTs a JSON body and gives the JSON of the answer.
   * @throws {ControlError} when there is no answer in time, or one that says what is wrong
   */
  call(
    path: string,
    body: object,
    options: { readonly signal: AbortSignal; readonly timeoutMs: number },
  ): Promise<unknown>;
  close(): void;
}

/** More than this wait for a free connection; the agent has fewer calls of its driver under way. */
const MAX_CONNECTIONS = 32;

/** Calls one at host:port, over connections that are kept. */
export function createControlClient(address: string): ControlClient {
  const { host, port } = parseAddress(address);
  const agent = new Agent({ keepAlive: true, maxSockets: MAX_CONNECTIONS });

  function post(path: string, text: string, signal: AbortSignal): Promise<[status: number, text: string]> {
    return new Promise((resolve, reject) => {
      const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(text) };
      const sent = request({ agent, host, port, path, method: "POST", headers, signal }, (response) => {
        let answer = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => {
          answer += chunk;
        });
        response.on("end", () => resolve([response.statusCode ?? 0, answer]));
        response.on("error", reject);
      });
      sent.on("error", (err) => {
        // A kept connection may be closed at the very moment it is used again; all calls may be repeated.
        if (sent.reusedSocket && "code" in err && err.code === "ECONNRESET")
          post(path, text, signal).then(resolve, reject);
        else reject(err);
      });
      sent.end(text);
    });
  }

  return {
    async call(path, body, { signal, timeoutMs }) {
      const deadline = AbortSignal.timeout(timeoutMs);
      let status = 0;
      let text = "";
      try {
        [status, text] = await post(path, JSON.stringify(body), AbortSignal.any([signal, deadline]));
      } catch (err) {
        signal.throwIfAborted();
        if (deadline.aborted) throw new ControlError(`no answer in ${timeoutMs} ms`, { cause: err });
        throw new ControlError(err instanceof Error ? err.message : String(err), { cause: err });
      }
      const answer = parse(text);
      if (status === 200) return answer;
      const isTold = typeof answer === "object" && answer !== null && "error" in answer;
      throw new ControlError(isTold ? String(answer.error) : `HTTP status ${status}`, { status });
    },
    close: () => agent.destroy(),
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (err) {
    throw new ControlError("the answer is no JSON", { cause: err });
  }
}
