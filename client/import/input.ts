import { createReadStream } from "node:fs";
import type { Readable } from "node:stream";

export type InputFormat = "ics" | "jsonl";

/** A file that is being read. */
export interface Input {
  /** Its name as given; `-` for standard input. */
  readonly file: string;
  readonly format: InputFormat;
  /** Its content, once. */
  readonly chunks: AsyncIterable<Uint8Array>;
}

/**
 * Opens a file, or standard input for `-`. The format, unless given, follows from the name (`.jsonl`, `.ndjson` or
 * `.ics`), else from the first character: JSON Lines begin with a brace.
 *
 * @throws what opening the file throws
 */
export async function openInput(
  file: string,
  stdin: Readable,
  format: InputFormat | undefined,
  signal: AbortSignal,
): Promise<Input> {
  const source: AsyncIterable<Uint8Array | string> =
    file === "-" ? stdin : createReadStream(file, { signal });
  const chunks = source[Symbol.asyncIterator]();
  const first = await chunks.next();
  const head = first.done ? new Uint8Array() : bytesOf(first.value);
  return { file, format: format ?? formatOf(file, head), chunks: continued(head, chunks) };
}

/** The whole content. */
export async function readAll({ chunks }: Input): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Buffer.concat(parts);
}

async function* continued(head: Uint8Array, rest: AsyncIterator<Uint8Array | string>) {
  try {
    yield head;
    for (let next = await rest.next(); !next.done; next = await rest.next()) yield bytesOf(next.value);
  } finally {
    await rest.return?.();
  }
}

function bytesOf(chunk: Uint8Array | string): Uint8Array {
  return typeof chunk === "string" ? Buffer.from(chunk) : chunk;
}

function formatOf(file: string, head: Uint8Array): InputFormat {
  if (/\.(jsonl|ndjson)$/i.test(file)) return "jsonl";
  if (/\.(ics|ical|ifb|icalendar)$/i.test(file)) return "ics";
  return /^\uFEFF?\s*\{/.test(Buffer.from(head.subarray(0, 1024)).toString()) ? "jsonl" : "ics";
}
