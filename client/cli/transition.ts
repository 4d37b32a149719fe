import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { Command } from "commander";
import type { ConvokeClient } from "../transport/client.ts";
import { type CliContext, endpointOf } from "./context.ts";
import { endpointOption, type OutputFormat, outputOption } from "./options.ts";
import type { Resource } from "./output.ts";

/** A command that moves each of the things named to another state. */
export interface Transition<D extends DescMessage> {
  readonly name: string;
  readonly description: string;
  /** What is printed behind the ID, e.g. `cancelled`; may depend on how the thing was `before`. */
  readonly done: string | ((item: MessageShape<D>, before: MessageShape<D> | undefined) => string);
  /** What people may call the things on the command line; the first two are singular and plural. */
  readonly words: readonly string[];
  readonly idOf: (item: MessageShape<D>) => string;
  readonly resource: () => Promise<Resource<D>>;
  /** Reads the thing before it is changed, where `done` needs that. */
  readonly before?: Transition<D>["call"];
  readonly call: (
    client: ConvokeClient,
    id: string,
    signal: AbortSignal,
  ) => Promise<MessageShape<D> | undefined>;
  /** Printed below the options. */
  readonly help: string;
}

/** `convoke <name> [conference|server] ID…`: prints a line for each, or the things as they are afterwards. */
export function transitionCommand<D extends DescMessage>(
  context: CliContext,
  transition: Transition<D>,
): Command {
  const { name, description, done, words, idOf, resource, before, call } = transition;
  const [singular = ""] = words;
  return new Command(name)
    .description(description)
    .argument("<ID...>", `one or more; the word \`${singular}\` may stand in front of them`)
    .addOption(outputOption())
    .addOption(endpointOption())
    .addHelpText("after", `\n${transition.help}`)
    .usage(`[options] [${singular}] <ID...>`)
    .action(async (args: string[], { output }: { output: OutputFormat }, command: Command) => {
      const { forEachId, idsOf } = await import("./each-id.ts");
      const ids = idsOf(args, words);
      using client = await context.connect(command);
      const outcomes = forEachId(context, ids, endpointOf(context, command), async (id) => {
        const earlier = await before?.(client, id, context.signal);
        const item = await call(client, id, context.signal);
        if (!item) throw new Error(`the control plane answered without the ${singular}`);
        return { item, text: typeof done === "string" ? done : done(item, earlier) };
      });
      if (output === "table") {
        for await (const { item, text } of outcomes) await context.print(`${singular}/${idOf(item)} ${text}`);
      } else {
        const { printNamed } = await import("./output.ts");
        const items = async function* () {
          for await (const { item } of outcomes) yield item;
        };
        await printNamed(context, output, await resource(), ids, items());
      }
    });
}
