import { toJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { stringify } from "yaml";
import {
  compileDetection,
  type DetectionSettings,
  readDetection,
  toDetection,
} from "../../../common/detection.ts";
import {
  BRAKE_FORMULA,
  DAMPENING_MS,
  DAMPENING_RESET_MS,
  DETECTION_FORMULAS,
  substituteSettings,
} from "../../../common/detection-formulas.ts";
import { type Brake, DetectionSchema } from "../../../proto/gen/convoke/v1/detection_pb.js";
import { asUsage } from "../as-usage.ts";
import { CliError } from "../cli-error.ts";
import { type CliContext, endpointOf } from "../context.ts";
import { DETECTION_FLAGS, detectionOf, namingFlags } from "../detection-options.ts";
import { ExitCode } from "../exit-code.ts";
import type { OutputFormat } from "../options.ts";
import { createTable } from "../table.ts";

export interface ExplainOptions {
  readonly output: OutputFormat;
  readonly endpoint?: string;
  readonly servers?: number;
  /** The detection options, by commander's names. */
  readonly [option: string]: unknown;
}

interface Settled {
  readonly settings: DetectionSettings;
  /** Where they come from, for people. */
  readonly source: string;
  /** Undefined when no control plane was asked. */
  readonly brake: Brake | undefined;
  /** The same. */
  readonly moveBudget: number | undefined;
}

/** Prints the settings in force, or those planned, with the formulas and what comes out of them. */
export async function runExplain(
  context: CliContext,
  options: ExplainOptions,
  command: Command,
): Promise<void> {
  const explained = explain(await settle(context, options, command), options.servers);
  if (options.output === "table") return context.print(textOf(explained));
  await context.print(
    options.output === "json" ? JSON.stringify(explained, undefined, 2) : stringify(explained).trimEnd(),
  );
}

async function settle(context: CliContext, options: ExplainOptions, command: Command): Promise<Settled> {
  const given = detectionOf(options);
  if (given) {
    if (command.optsWithGlobals<ExplainOptions>().endpoint !== undefined)
      throw new CliError(
        "planning options go without --endpoint: the control plane has settings of its own",
        {
          exitCode: ExitCode.usage,
        },
      );
    return {
      settings: asUsage(() => namingFlags(() => compileDetection(given))),
      source: "as planned",
      brake: undefined,
      moveBudget: undefined,
    };
  }
  using client = await context.connect(command);
  const { detection, brake, moveBudget } = await client.servers.getDetection({}, { signal: context.signal });
  if (!detection) throw new Error("the control plane answered without its settings");
  const source = `as the control plane at ${endpointOf(context, command)} has them`;
  return { settings: readDetection(detection), source, brake, moveBudget };
}

type Explained = ReturnType<typeof explain>;

function explain({ settings, source, brake, moveBudget }: Settled, plannedServers: number | undefined) {
  const show = (key: keyof DetectionSettings) => showSetting(key, settings[key]);
  const servers = plannedServers ?? (brake && brake.servers > 0 ? brake.servers : undefined);
  return {
    source,
    profile: settings.profile,
    settings: toJson(DetectionSchema, toDetection(settings)),
    flags: DETECTION_FLAGS.map(({ key, flag, text }) => ({ flag, value: show(key), meaning: text })),
    times: DETECTION_FORMULAS.map(({ name, title, text, valueMs }) => ({
      name,
      title,
      formula: text,
      numbers: substituteSettings(text, settings, show),
      milliseconds: Math.round(valueMs(settings)),
    })),
    dampening: { holdMilliseconds: DAMPENING_MS, resetMilliseconds: DAMPENING_RESET_MS },
    brake: {
      formula: BRAKE_FORMULA.text,
      numbers: substituteSettings(BRAKE_FORMULA.text, settings, show).replaceAll(
        /\bservers\b/g,
        servers === undefined ? "servers" : String(servers),
      ),
      windowMilliseconds: settings.brakeWindowMs,
      allowances: (servers === undefined ? [2, 10, 100] : [servers]).map((count) => ({
        servers: count,
        allowed: BRAKE_FORMULA.value(settings, count),
      })),
      ...(brake ? { engaged: brake.engaged } : {}),
    },
    ...(moveBudget ? { moveBudget } : {}),
  };
}

function textOf({ source, profile, flags, times, dampening, brake, moveBudget }: Explained): string {
  const table = createTable<Explained["flags"][number]>(
    [
      { header: "SETTING", cell: ({ flag }) => flag },
      { header: "VALUE", cell: ({ value }) => value },
      { header: "WHAT", cell: ({ meaning }) => meaning },
    ],
    0,
  );
  const [first = 0, second = 0, further = 0] = dampening.holdMilliseconds;
  const allowances = brake.allowances.map(
    ({ servers, allowed }) => `of ${servers} servers ${allowed} may fail`,
  );
  return [
    `Failure detection, profile ${profile}, ${source}.`,
    "",
    table(flags),
    "",
    ...times.flatMap(({ title, formula, numbers, milliseconds }) => [
      `${title}: ${secondsText(milliseconds)}`,
      `    = ${formula}`,
      `    = ${numbers}`,
    ]),
    "",
    `a server that was DOWN and answers again is held for ${secondsText(first)}, the second time for ${secondsText(second)}, and then for ${secondsText(further)};`,
    `    after ${secondsText(dampening.resetMilliseconds)} UP it begins anew`,
    `the brake engages when more servers fail within ${secondsText(brake.windowMilliseconds)} than may: ${allowances.join(", ")}`,
    `    = ${brake.formula}`,
    `    = ${brake.numbers}`,
    ...("engaged" in brake && brake.engaged ? ["    it is engaged now: `convoke get brake`"] : []),
    ...(moveBudget
      ? [
          `at most ${moveBudget} conferences are on their way to another server at a time, half of it by drains`,
        ]
      : []),
  ].join("\n");
}

function showSetting(key: keyof DetectionSettings, value: number | string): string {
  if (typeof value === "string") return value;
  if (key.endsWith("Ms")) return secondsText(value);
  return String(Math.round(value * 1_000) / 1_000);
}

/** `150ms`, `1.35s`, `60s`, `5m`: in one unit, as numbers stand in a formula. */
function secondsText(ms: number): string {
  if (ms > 0 && ms < 1_000) return `${Math.round(ms)}ms`;
  if (ms >= 120_000 && ms % 60_000 === 0) return `${ms / 60_000}m`;
  return `${Math.round(ms) / 1_000}s`;
}
