/**
 * AbortController and AbortSignal for the length of a run, as far as programs use them. Node.js' own are a good part of
 * what a run costs: events that nobody reads, exceptions with stacks, weak references for composed signals. What they do
 * is tested with everything else.
 */
type Listener = (event: { readonly type: "abort"; readonly target: unknown }) => void;

/** Made once: its stack is nobody's. */
const ABORTED = new DOMException("This operation was aborted", "AbortError");

class LightSignal {
  aborted = false;
  reason: unknown = undefined;
  #listeners: Listener[] = [];

  static any(signals: Iterable<LightSignal>): LightSignal {
    const composed = new LightSignal();
    for (const signal of signals) {
      if (signal.aborted) composed.end(signal.reason);
      else signal.addEventListener("abort", () => composed.end(signal.reason));
    }
    return composed;
  }

  static abort(reason: unknown = ABORTED): LightSignal {
    const signal = new LightSignal();
    signal.end(reason);
    return signal;
  }

  addEventListener(_type: "abort", listener: Listener): void {
    if (!this.aborted && !this.#listeners.includes(listener)) this.#listeners.push(listener);
  }

  removeEventListener(_type: "abort", listener: Listener): void {
    const index = this.#listeners.indexOf(listener);
    // A new list, for the old one may be gone through at this moment.
    if (index >= 0) this.#listeners = this.#listeners.filter((_, at) => at !== index);
  }

  throwIfAborted(): void {
    if (this.aborted) throw this.reason;
  }

  end(reason: unknown): void {
    if (this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    const listeners = this.#listeners;
    for (const listener of listeners) {
      if (this.#listeners === listeners || this.#listeners.includes(listener))
        listener({ type: "abort", target: this });
    }
    this.#listeners = [];
  }
}

class LightController {
  readonly signal = new LightSignal();

  abort(reason: unknown = ABORTED): void {
    this.signal.end(reason);
  }
}

/** Puts the light ones in place of the real ones, until what is returned is called. */
export function useLightAborts(): () => void {
  const { AbortController: controller, AbortSignal: signal } = globalThis;
  Object.assign(globalThis, { AbortController: LightController, AbortSignal: LightSignal });
  return () => void Object.assign(globalThis, { AbortController: controller, AbortSignal: signal });
}
