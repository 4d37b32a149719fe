import type { Writable } from "node:stream";

/** Where a run stands, as it is shown. */
export interface DemoState {
  readonly seconds: number;
  readonly phase: string;
  readonly total: number;
  readonly active: number;
  /** In order of IDs; a dead one stays in the list. */
  readonly dispatchers: readonly { readonly id: string; readonly placed: number; readonly dead: boolean }[];
  /** In order of IDs; `struck` says what was done to one, and is empty for the others. */
  readonly servers: readonly { readonly id: string; readonly hosted: number; readonly struck: string }[];
}

/** Shows a run: on a terminal a picture that is drawn anew, elsewhere a line now and then. */
export interface ProgressView {
  show(state: DemoState): void;
  /** A line that stays. */
  note(text: string): void;
}

const BAR_WIDTH = 30;
/** Without a terminal, one line in so many seconds tells enough. */
const LINE_INTERVAL_S = 2;

export function createProgressView(stream: Writable, isTerminal: boolean): ProgressView {
  let drawn = 0;
  let last: DemoState | undefined;
  const erase = () => {
    if (drawn > 0) stream.write(`\u001b[${drawn}A\u001b[J`);
    drawn = 0;
  };
  const draw = (state: DemoState) => {
    const lines = picture(state);
    stream.write(`${lines.join("\n")}\n`);
    drawn = lines.length;
  };
  return {
    show(state) {
      if (isTerminal) {
        erase();
        draw(state);
      } else if (!last || last.phase !== state.phase || state.seconds - last.seconds >= LINE_INTERVAL_S) {
        stream.write(
          `${state.seconds.toFixed(1).padStart(5)} s  ${state.phase}: ${state.active} of ${state.total} active\n`,
        );
      } else return;
      last = state;
    },
    note(text) {
      if (isTerminal) erase();
      stream.write(`${text}\n`);
      if (isTerminal && last) draw(last);
    },
  };
}

function picture(state: DemoState): string[] {
  const placedMost = Math.max(1, ...state.dispatchers.map(({ placed }) => placed));
  const hostedMost = Math.max(1, ...state.servers.map(({ hosted }) => hosted));
  return [
    `${state.seconds.toFixed(1).padStart(5)} s  ${state.phase}`,
    `  active  ${bar(state.active, Math.max(1, state.total))} ${state.active} of ${state.total}`,
    ...state.dispatchers.map(
      ({ id, placed, dead }) =>
        `  ${id.padEnd(7)} ${bar(placed, placedMost)} placed ${placed}${dead ? "  killed" : ""}`,
    ),
    ...state.servers.map(
      ({ id, hosted, struck }) =>
        `  ${id.padEnd(7)} ${bar(hosted, hostedMost)} hosts ${hosted}${struck ? `  ${struck}` : ""}`,
    ),
  ];
}

function bar(value: number, most: number): string {
  const filled = Math.round((value / most) * BAR_WIDTH);
  return "█".repeat(filled) + "·".repeat(BAR_WIDTH - filled);
}
