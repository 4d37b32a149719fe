/** A line of a text, with its number from 1; without its line end. */
export interface TextLine {
  readonly line: number;
  readonly text: string;
}

/**
 * The lines of a stream of UTF-8, with LF or CR LF between; a byte-order mark is dropped. A line longer than `maxLength`
 * characters comes cut off right behind that length, so that input without line ends does not fill the memory.
 */
export async function* textLines(
  chunks: AsyncIterable<Uint8Array>,
  maxLength: number,
): AsyncGenerator<TextLine, void, undefined> {
  const decoder = new TextDecoder();
  let line = 1;
  let rest = "";
  const take = (text: string): TextLine => ({
    line: line++,
    text: text.endsWith("\r") ? text.slice(0, -1) : text,
  });
  for await (const chunk of chunks) {
    const text = decoder.decode(chunk, { stream: true });
    const pieces = text.split("\n");
    for (const [index, piece] of pieces.entries()) {
      // One character more than allowed tells that the line is too long.
      rest += piece.slice(0, maxLength + 1 - rest.length);
      if (index === pieces.length - 1) break;
      yield take(rest);
      rest = "";
    }
  }
  rest += decoder.decode();
  if (rest !== "") yield take(rest);
}
