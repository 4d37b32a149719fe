/** One column of a table. */
export interface Column<T> {
  readonly header: string;
  /** The cell's text; `nowMs` is the wall clock when the table was begun, for ages. */
  cell(item: T, nowMs: number): string;
}

const GAP = "   ";

/**
 * Lays rows out in columns, in as many pieces as the caller likes: each piece is aligned in itself, and never narrower
 * than those before it. The header comes with the first.
 */
export function createTable<T>(
  columns: readonly Column<T>[],
  nowMs: number,
): (items: readonly T[]) => string {
  let header: string[] | undefined = columns.map((column) => column.header);
  const widths = columns.map((column) => column.header.length);
  return (items) => {
    const rows = items.map((item) => columns.map((column) => column.cell(item, nowMs)));
    if (header) rows.unshift(header);
    header = undefined;
    for (const row of rows)
      row.forEach((cell, index) => {
        widths[index] = Math.max(widths[index] ?? 0, cell.length);
      });
    return rows
      .map((row) =>
        row
          .map((cell, index) => cell.padEnd(widths[index] ?? 0))
          .join(GAP)
          .trimEnd(),
      )
      .join("\n");
  };
}
