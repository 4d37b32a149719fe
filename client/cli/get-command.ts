import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { Command, type Option } from "commander";
import type { ConvokeClient } from "../transport/client.ts";
import { CliError } from "./cli-error.ts";
import { type CliContext, endpointOf } from "./context.ts";
import { ExitCode } from "./exit-code.ts";
import {
  endpointOption,
  type GetFormat,
  getOutputOption,
  integerParser,
  type OutputFormat,
} from "./options.ts";
import type { Resource } from "./output.ts";

/** How one kind of thing is read. */
export interface Getter<D extends DescMessage, F extends object> {
  /** Plural first, then other words for it. */
  readonly words: readonly [string, ...string[]];
  readonly description: string;
  /** Options that narrow a list; they have no defaults and go without IDs. */
  readonly filters: readonly Option[];
  readonly resource: () => Promise<Resource<D>>;
  /** A line to print on stderr below a table, or none. */
  readonly note?: (client: ConvokeClient, signal: AbortSignal) => Promise<string | undefined>;
  /** Reads one; undefined when there is none and the call did not say so itself. */
  readonly get: (
    client: ConvokeClient,
    id: string,
    signal: AbortSignal,
  ) => Promise<MessageShape<D> | undefined>;
  readonly list: (
    client: ConvokeClient,
    filters: F,
    page: { readonly pageSize: number; readonly signal: AbortSignal },
  ) => AsyncIterable<MessageShape<D>>;
}

/** Large pages cost few round trips, and still fit any message limit. */
const PAGE_SIZE = 500;

/** `convoke get <kind> [ID…]`. */
export function getterCommand<D extends DescMessage, F extends object>(
  context: CliContext,
  getter: Getter<D, F>,
): Command {
  const [plural, ...aliases] = getter.words;
  const command = new Command(plural)
    .aliases(aliases)
    .description(getter.description)
    .argument("[ID...]", "only these, in this order; all without")
    .addOption(getOutputOption());
  for (const filter of getter.filters) command.addOption(filter);
  return command
    .option("--limit <n>", "stop after this many", integerParser({ min: 1, max: 2 ** 31 - 1 }))
    .addOption(endpointOption())
    .action(async (ids: string[], options: F & { output: GetFormat; limit?: number }, command: Command) => {
      const narrowed = [...getter.filters.map((filter) => filter.attributeName()), "limit"].filter(
        (name) => command.getOptionValue(name) !== undefined,
      );
      if (ids.length > 0 && narrowed.length > 0)
        throw new CliError(`--${narrowed[0]} narrows a list, and goes without IDs`, {
          exitCode: ExitCode.usage,
        });
      const [{ printList, printNamed }, { forEachId }, asked] = await Promise.all([
        import("./output.ts"),
        import("./each-id.ts"),
        getter.resource(),
      ]);
      const { format, resource } = layOut(options.output, asked);
      using client = await context.connect(command);
      if (ids.length === 0) {
        const { limit = Number.POSITIVE_INFINITY } = options;
        const items = getter.list(client, options, {
          pageSize: Math.min(limit, PAGE_SIZE),
          signal: context.signal,
        });
        await printList(context, format, resource, take(items, limit));
      } else {
        const items = forEachId(context, ids, endpointOf(context, command), async (id) => {
          const item = await getter.get(client, id, context.signal);
          if (!item) throw new CliError(`there is no ${resource.singular} ${id}`);
          return item;
        });
        await printNamed(context, format, resource, ids, items);
      }
      const note = format === "table" ? await getter.note?.(client, context.signal) : undefined;
      if (note !== undefined) context.stderr.write(`${note}\n`);
    });
}

/** A wide table is a table of a resource with more columns. */
export function layOut<D extends DescMessage>(
  output: GetFormat,
  resource: Resource<D>,
): { readonly format: OutputFormat; readonly resource: Resource<D> } {
  if (output !== "wide") return { format: output, resource };
  const { columns, wideColumns = [] } = resource;
  return { format: "table", resource: { ...resource, columns: [...columns, ...wideColumns] } };
}

async function* take<T>(items: AsyncIterable<T>, limit: number): AsyncGenerator<T, void, undefined> {
  let left = limit;
  for await (const item of items) {
    yield item;
    if (--left <= 0) return;
  }
}
