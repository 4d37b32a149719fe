/** A content line of an iCalendar file: unfolded. */
export interface ContentLine {
  /** The number of its first physical line, from 1. */
  readonly line: number;
  /** In upper case; empty when the line has no name. */
  readonly name: string;
  /** The whole line, one character for each byte of the file; `textOf` gives its text. */
  readonly bytes: string;
}

const NAME = /^([A-Za-z0-9-]+)[;:]/;

/**
 * The content lines of a file, with LF or CR LF between, folded or not; empty lines are left out. Lines are unfolded as
 * bytes, because a fold may fall inside a UTF-8 character.
 */
export function* contentLines(file: Uint8Array): Generator<ContentLine> {
  const bytes = byteString(file);
  let lineNumber = 0;
  let firstLine = 0;
  let current = "";
  for (let at = 0; at < bytes.length; ) {
    let end = bytes.indexOf("\n", at);
    if (end < 0) end = bytes.length;
    lineNumber++;
    const stop = bytes[end - 1] === "\r" && end > at ? end - 1 : end;
    const first = bytes[at];
    if ((first === " " || first === "\t") && current !== "") {
      current += bytes.slice(at + 1, stop);
    } else {
      if (current.trim() !== "") yield contentLine(current, firstLine);
      current = bytes.slice(at, stop);
      firstLine = lineNumber;
    }
    at = end + 1;
  }
  if (current.trim() !== "") yield contentLine(current, firstLine);
}

/** The text of a content line. */
export function textOf({ bytes }: ContentLine): string {
  return Buffer.from(bytes, "latin1").toString("utf8");
}

function contentLine(bytes: string, line: number): ContentLine {
  return { line, name: NAME.exec(bytes)?.[1]?.toUpperCase() ?? "", bytes };
}

/** One character for each byte, without a byte-order mark; UTF-16, which some Windows programs save, becomes UTF-8. */
function byteString(file: Uint8Array): string {
  const buffer = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  if (buffer[0] === 0xff && buffer[1] === 0xfe)
    return Buffer.from(buffer.toString("utf16le", 2), "utf8").toString("latin1");
  const start = buffer[0] === 0xef && buffer[1] === 0xbb && buffer[2] === 0xbf ? 3 : 0;
  return buffer.toString("latin1", start);
}
