import { type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
import { stringify } from "yaml";
import type { CliContext } from "./context.ts";
import type { OutputFormat } from "./options.ts";
import { type Column, createTable } from "./table.ts";

/** A kind of thing that commands print. */
export interface Resource<D extends DescMessage> {
  /** For people, e.g. `conference`. */
  readonly singular: string;
  /** For people, and the key of lists in JSON and YAML, e.g. `conferences`. */
  readonly plural: string;
  readonly schema: D;
  readonly columns: readonly Column<MessageShape<D>>[];
  /** What a wide table has behind them. */
  readonly wideColumns?: readonly Column<MessageShape<D>>[];
}

type Printer = Pick<CliContext, "print" | "stderr" | "clock">;

/** Rows that are laid out together; bounds what a table of any length holds in memory. */
const ROWS_AT_ONCE = 1_000;

/** Prints one: a table of one row, or its proto JSON form, or that as YAML. */
export async function printOne<D extends DescMessage>(
  context: Printer,
  format: OutputFormat,
  { schema, columns }: Resource<D>,
  item: MessageShape<D>,
): Promise<void> {
  if (format === "table") return context.print(createTable(columns, context.clock.wallMs())([item]));
  const json = toJson(schema, item);
  return context.print(format === "json" ? JSON.stringify(json, undefined, 2) : stringify(json).trimEnd());
}

/**
 * Prints a list as it comes, holding a bounded part of it: `{"<plural>": […]}` in JSON and YAML. An empty table is a
 * note on stderr. When the items end with an error, those before it are printed, in a list that is closed.
 */
export async function printList<D extends DescMessage>(
  context: Printer,
  format: OutputFormat,
  resource: Resource<D>,
  items: AsyncIterable<MessageShape<D>>,
): Promise<void> {
  if (format === "table") return printTable(context, resource, items);
  const { schema, plural } = resource;
  const [open, next, close, empty] =
    format === "json"
      ? [`{\n  "${plural}": [`, ",", "\n  ]\n}", `{\n  "${plural}": []\n}`]
      : [`${plural}:`, "", "", `${plural}: []`];
  let pending: string | undefined;
  try {
    for await (const item of items) {
      await context.print(pending === undefined ? open : pending + next);
      const json = toJson(schema, item);
      pending =
        format === "json"
          ? JSON.stringify(json, undefined, 2).replaceAll(/^/gm, "    ")
          : stringify([json])
              .trimEnd()
              .replaceAll(/^(?=.)/gm, "  ");
    }
    if (pending === undefined) await context.print(empty);
  } finally {
    if (pending !== undefined) await context.print(pending + close);
  }
}

/** Prints things that were asked for by ID: one alone as `printOne` does, several as `printList` does. */
export async function printNamed<D extends DescMessage>(
  context: Printer,
  format: OutputFormat,
  resource: Resource<D>,
  ids: readonly string[],
  items: AsyncIterable<MessageShape<D>>,
): Promise<void> {
  if (ids.length !== 1) return printList(context, format, resource, items);
  for await (const item of items) await printOne(context, format, resource, item);
}

async function printTable<D extends DescMessage>(
  context: Printer,
  { columns, plural }: Resource<D>,
  items: AsyncIterable<MessageShape<D>>,
): Promise<void> {
  const table = createTable(columns, context.clock.wallMs());
  let rows: MessageShape<D>[] = [];
  let count = 0;
  try {
    for await (const item of items) {
      count++;
      rows.push(item);
      if (rows.length === ROWS_AT_ONCE) {
        await context.print(table(rows));
        rows = [];
      }
    }
    if (count === 0) context.stderr.write(`no ${plural} found\n`);
  } finally {
    if (rows.length > 0) await context.print(table(rows));
  }
}
