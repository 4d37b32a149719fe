import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

/** A folder, and what its sources may not import. Tests may import anything. */
interface Rule {
  readonly from: RegExp;
  readonly forbidden: RegExp;
  readonly why: string;
}

const RULES: readonly Rule[] = [
  {
    from: /^client\//,
    forbidden: /^(server|test|bin)\//,
    why: "the client knows the contracts, not the server",
  },
  {
    from: /^server\//,
    forbidden: /^(client|test|bin)\//,
    why: "the server knows the contracts, not the client",
  },
  {
    from: /^common\//,
    forbidden: /^(client|server|test|bin)\//,
    why: "what both sides need knows neither side",
  },
  {
    from: /^server\/(dispatch|health)\//,
    forbidden:
      /^(server\/(operations|services|rpc|store\/(?!store\.ts|keys\.ts))|node:(fs|net|http|child_process))/,
    why: "decisions do no I/O",
  },
  { from: /^(?!server\/store\/etcd\/)/, forbidden: /^etcd3$/, why: "only the etcd engine knows etcd3" },
  { from: /^(?!server\/store\/embedded\/)/, forbidden: /^lmdb$/, why: "only the embedded engine knows LMDB" },
  {
    from: /^(?!(common|server)\/rpc\/|client\/transport\/)/,
    forbidden: /^(@grpc\/|grpc-health-check$)/,
    why: "only the rpc and transport folders know grpc-js",
  },
  { from: /^/, forbidden: /^(vitest|fast-check)/, why: "test libraries are for tests" },
];

const SOURCES = ["bin", "client", "common", "server"];
const IMPORT =
  /(?:^|\n)\s*(?:import|export)\b[^"';]*?from\s*"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)|(?:^|\n)import\s+"([^"]+)"/g;

/** What breaks the rules below `root`, one line each: file, import, reason. */
export function importViolations(root: string): string[] {
  const files = SOURCES.flatMap((folder) => globSync(`${folder}/**/*.ts`, { cwd: root }));
  return files
    .filter((file) => !file.endsWith(".test.ts"))
    .flatMap((file) => violationsOf(file, readFileSync(join(root, file), "utf8")));
}

/** What breaks the rules in one source, whose path is relative to the root. */
export function violationsOf(file: string, source: string): string[] {
  return [...source.matchAll(IMPORT)]
    .map((match) => match[1] ?? match[2] ?? match[3] ?? "")
    .map((name) => (name.startsWith(".") ? relative(".", join(dirname(file), name)) : name))
    .flatMap((target) =>
      RULES.filter(({ from, forbidden }) => from.test(file) && forbidden.test(target)).map(
        ({ why }) => `${file} imports ${target}: ${why}`,
      ),
    );
}
