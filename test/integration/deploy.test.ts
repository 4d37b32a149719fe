import { execFile } from "node:child_process";
import { existsSync, globSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { createConvokeClient } from "../../client/transport/client.ts";
import { runComposeParts } from "../support/compose-parts.ts";
import { DEBIAN_HOOK_TIMEOUT_MS, ensureDebianPackages } from "../support/debian.ts";
import { startEtcd } from "../support/etcd.ts";

const execute = promisify(execFile);
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const LAUNCHER = join(ROOT, "bin", "convoke.js");
const UNITS = globSync("deploy/systemd/*.service", { cwd: ROOT });
const COMMANDS = ["serve", "dispatcher", "agent"] as const;
type CommandName = (typeof COMMANDS)[number];

/** Out of 100. What is left is what the parts are for: the network. */
const HIGHEST_EXPOSURE = 20;

interface ComposeService {
  readonly image?: string;
  readonly build?: { readonly context: string; readonly dockerfile: string };
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly depends_on?: Readonly<Record<string, { condition: string }>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly healthcheck?: { readonly test?: readonly string[]; readonly disable?: boolean };
}

const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
const compose: {
  readonly services: Readonly<Record<string, ComposeService>>;
  readonly volumes: Readonly<Record<string, unknown>>;
} = parse(read("deploy/compose.yaml"), { merge: true });
const services = Object.entries(compose.services);
const dockerfile = read("deploy/Dockerfile");

const help = new Map<string, string>();
beforeAll(async () => {
  await ensureDebianPackages(["systemd", "etcd-server", "etcd-client"]);
  for (const command of COMMANDS) {
    const { stdout } = await execute(process.execPath, [LAUNCHER, command, "--help"]);
    help.set(command, stdout);
  }
}, DEBIAN_HOOK_TIMEOUT_MS);

const knows = (command: string, word: string) =>
  new RegExp(`(?<![\\w-])${word}(?![\\w-])`).test(help.get(command) ?? "");

/** What of these words is no option or variable of the command. */
const unknown = (command: string, words: Iterable<string>) =>
  [...words].filter((word) => !knows(command, word));

function commandOf(words: readonly string[] | undefined): CommandName {
  const command = COMMANDS.find((name) => name === words?.[0]);
  if (!command) throw new Error(`no command of ours: ${words}`);
  return command;
}

describe("systemd units", () => {
  test("verify, and keep their processes away from the system", async () => {
    const folder = await mkdtemp(join(tmpdir(), "convoke-units-"));
    try {
      for (const unit of UNITS) {
        const text = read(unit);
        expect(text).toContain("ExecStart=/usr/local/bin/convoke ");
        // It need not be installed here, and verification asks for a file that can be run.
        const name = basename(unit);
        await writeFile(join(folder, name), text.replaceAll("/usr/local/bin/convoke", process.execPath));
      }
      const names = UNITS.map((unit) => basename(unit).replace("@.", "@x1."));
      const { stderr } = await execute("systemd-analyze", ["verify", ...names.map((name) => `./${name}`)], {
        cwd: folder,
      });
      expect(stderr).toBe("");
      for (const unit of UNITS) {
        const args = ["security", "--offline=true", `--threshold=${HIGHEST_EXPOSURE}`, `./${basename(unit)}`];
        await execute("systemd-analyze", args, { cwd: folder });
      }
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  test.each(UNITS)("%s and its settings use what the command knows", (unit) => {
    const text = read(unit);
    const words = /^ExecStart=\S+ (?<args>.+)$/m.exec(text)?.groups?.args?.split(" ");
    const command = commandOf(words);
    const settings = read(`deploy/systemd/${command}.env`);
    expect(text).toContain(`/etc/convoke/${command}.env`);
    const variables = new Set(`${text}\n${settings}`.match(/\bCONVOKE_\w+/g));
    expect(variables.size).toBeGreaterThan(0);
    expect(unknown(command, variables)).toEqual([]);
    expect(unknown(command, words?.filter((word) => word.startsWith("-")) ?? [])).toEqual([]);
  });
});

describe("compose.yaml", () => {
  test("has what it says it has", () => {
    const count = (command: string) =>
      services.filter(([, service]) => service.command?.[0] === command).length;
    expect([count("serve"), count("dispatcher"), count("agent")]).toEqual([2, 3, 3]);
    expect(services.filter(([, { image }]) => image?.includes("/etcd:"))).toHaveLength(3);
    expect(services).toHaveLength(11);
  });

  test.each(services)("%s refers to nothing that is not there", (name, service) => {
    for (const needed of Object.keys(service.depends_on ?? {})) {
      expect(Object.keys(compose.services)).toContain(needed);
      expect(compose.services[needed]?.healthcheck?.test).toBeDefined();
    }
    for (const volume of service.volumes ?? [])
      expect(compose.volumes).toHaveProperty(volume.split(":")[0] ?? "");
    for (const port of service.ports ?? []) {
      expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
      const inside = `0.0.0.0:${port.split(":")[2]}`;
      expect(Object.values(service.environment ?? {})).toContain(inside);
    }
    const published = services.flatMap(([, { ports = [] }]) => ports.map((port) => port.split(":")[1]));
    expect(new Set(published).size).toBe(published.length);
    if (service.build) {
      expect(existsSync(join(ROOT, "deploy", service.build.context, service.build.dockerfile))).toBe(true);
    }
    // Host names in addresses are services, which listen on that port.
    for (const [variable, value] of Object.entries(service.environment ?? {})) {
      for (const [, host = "", port] of value.matchAll(/(?:^|\/\/|,|=)([a-z]+\d):(\d+)/g)) {
        expect(Object.keys(compose.services), variable).toContain(host);
        const there = Object.values(compose.services[host]?.environment ?? {});
        expect(
          there.some((text) => text.endsWith(`0.0.0.0:${port}`)),
          `${host}:${port}`,
        ).toBe(true);
      }
    }
    expect(name).toMatch(/^[a-z]+\d$/);
  });

  test.each(services.filter(([, { command }]) => command))(
    "%s uses what its command knows",
    (_name, service) => {
      const command = commandOf(service.command);
      expect(unknown(command, Object.keys(service.environment ?? {}))).toEqual([]);
      expect(unknown(command, service.command?.filter((word) => word.startsWith("-")) ?? [])).toEqual([]);
    },
  );

  test("sets nothing that etcd does not know", async () => {
    const { stdout, stderr } = await execute("etcd", ["--help"]);
    const variables = services.flatMap(([, { environment = {} }]) =>
      Object.keys(environment).filter((variable) => variable.startsWith("ETCD_")),
    );
    expect(variables.length).toBeGreaterThan(0);
    for (const variable of new Set(variables)) {
      const flag = `--${variable.slice("ETCD_".length).toLowerCase().replaceAll("_", "-")} `;
      expect(stdout + stderr).toContain(flag);
    }
  });

  test("its replicas, dispatchers and agents find each other and are well", async () => {
    await using etcd = await startEtcd();
    await using parts = await runComposeParts(compose.services, etcd.endpoints);
    const client = createConvokeClient({ endpoint: parts.replicas });
    try {
      const patience = { timeout: 45_000, interval: 100 };
      const dispatchers = async () => (await client.dispatchers.listDispatchers({})).dispatchers;
      await expect
        .poll(async () => (await dispatchers()).map(({ dispatcherId }) => dispatcherId), patience)
        .toEqual(["d1", "d2", "d3"]);
      const servers = async () => (await client.servers.listServers({})).servers;
      await expect
        .poll(async () => (await servers()).map(({ serverId }) => serverId), patience)
        .toEqual(["s1", "s2", "s3"]);
    } finally {
      client.close();
    }
    expect(parts.healthchecks).toHaveLength(2);
    for (const [command = "", ...args] of parts.healthchecks) await execute(command, args);
  }, 120_000);
});

describe("Dockerfile", () => {
  const lines = dockerfile
    .replaceAll(/\\\n\s*/g, "")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => /^(?<name>[A-Z]+) (?<rest>.+)$/.exec(line)?.groups ?? { name: line, rest: "" });
  const of = (name: string) => lines.filter((line) => line.name === name).map(({ rest = "" }) => rest);

  test("builds on the Node.js that the package asks for, and runs without root", () => {
    const { engines } = JSON.parse(read("package.json"));
    expect(engines.node).toBe(">=24");
    for (const from of of("FROM")) expect(from).toMatch(/^node:24-slim( AS \w+)?$/);
    expect(of("USER")).toEqual(["node"]);
    const known = ["FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE"];
    const last = ["HEALTHCHECK", "ENTRYPOINT", "CMD"];
    expect(lines.filter(({ name = "" }) => ![...known, ...last].includes(name))).toEqual([]);
    for (const name of last) expect(of(name)).toHaveLength(1);
  });

  test("copies what is there and not ignored, and from stages that are there", () => {
    const stages = of("FROM").flatMap((from) => / AS (\w+)$/.exec(from)?.[1] ?? []);
    const sent = read(".dockerignore")
      .split("\n")
      .flatMap((line) => (line.startsWith("!") ? line.slice(1) : []));
    for (const path of sent) expect(existsSync(join(ROOT, path)), path).toBe(true);
    for (const copied of of("COPY")) {
      const [, stage] = /^--from=(\w+) /.exec(copied) ?? [];
      if (stage !== undefined) expect(stages).toContain(stage);
      const paths = copied
        .split(" ")
        .filter((word) => !word.startsWith("--"))
        .slice(0, -1);
      if (stage === undefined && paths[0] !== ".")
        for (const path of paths) expect(sent).toContain(path.split("/")[0]);
    }
  });

  test("starts a command with options that it has", () => {
    const command: string[] = JSON.parse(of("CMD")[0] ?? "");
    expect(
      unknown(
        commandOf(command),
        command.filter((word) => word.startsWith("-")),
      ),
    ).toEqual([]);
    expect(JSON.parse(of("ENTRYPOINT")[0] ?? "")).toEqual(["node", "/app/bin/convoke.js"]);
  });
});

test("the papers name every file, and only those there are", async () => {
  const readme = await readFile(join(ROOT, "deploy", "README.md"), "utf8");
  for (const [, path = ""] of readme.matchAll(/\]\(([^)]+)\)/g))
    expect(existsSync(join(ROOT, "deploy", path))).toBe(true);
  for (const file of [...UNITS, "Dockerfile", "compose.yaml"]) expect(readme).toContain(basename(file));
});
