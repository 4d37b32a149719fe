import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const execute = promisify(execFile);

export interface EtcdOptions {
  /** How many members. Default 1. */
  readonly members?: number;
  /** Further flags of etcd, such as `--max-txn-ops=16`. */
  readonly flags?: readonly string[];
  /** Clients must use TLS with this authority; see `createTestAuthority`. */
  readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string };
}

/** A real cluster on loopback, its data in a temporary directory. */
export interface EtcdCluster extends AsyncDisposable {
  readonly members: readonly EtcdMember[];
  /** host:port of each member. */
  readonly endpoints: readonly string[];
  /** The one that leads now; waits until there is one. */
  leader(): Promise<EtcdMember>;
  /** Runs etcdctl against the members that are up; resolves with what it prints. */
  ctl(...args: readonly string[]): Promise<string>;
  /** Ends every member and deletes the data. */
  stop(): Promise<void>;
}

export interface EtcdMember {
  readonly name: string;
  /** host:port for clients. */
  readonly endpoint: string;
  readonly pid: number | undefined;
  /** Whether it runs and is not paused. */
  readonly answers: boolean;
  /** SIGKILL; resolves once it is gone. */
  kill(): Promise<void>;
  /** SIGSTOP: it keeps its connections and answers nothing. */
  pause(): void;
  /** SIGCONT. */
  resume(): void;
  /** Starts it again on its data, with further flags if given; resolves once it answers. */
  start(flags?: readonly string[]): Promise<void>;
}

/** A member on a machine that is busy with other tests needs seconds. */
const START_TIMEOUT_MS = 60_000;
const POLL_MS = 50;

/** @throws {Error} with what etcd logged, when a member does not come up */
export async function startEtcd(options: EtcdOptions = {}): Promise<EtcdCluster> {
  const count = options.members ?? 1;
  const directory = await mkdtemp(join(tmpdir(), "convoke-etcd-"));
  const ports = await freePorts(2 * count);
  const scheme = options.tls ? "https" : "http";
  const plans = Array.from({ length: count }, (_, index) => ({
    name: `m${index + 1}`,
    client: `127.0.0.1:${ports[2 * index]}`,
    peer: `http://127.0.0.1:${ports[2 * index + 1]}`,
  }));
  const ctlFlags = [
    ...(options.tls
      ? [`--cacert=${options.tls.ca}`, `--cert=${options.tls.cert}`, `--key=${options.tls.key}`]
      : []),
    "--command-timeout=10s",
    "--dial-timeout=2s",
  ];
  const cluster = plans.map(({ name, peer }) => `${name}=${peer}`).join(",");
  const members = plans.map(({ name, client, peer }) =>
    createMember(name, client, () => statusOf(`${scheme}://${client}`, ctlFlags), [
      `--name=${name}`,
      `--data-dir=${join(directory, name)}`,
      `--listen-client-urls=${scheme}://${client}`,
      `--advertise-client-urls=${scheme}://${client}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=${cluster}`,
      "--logger=zap",
      "--log-level=warn",
      ...(options.tls
        ? [
            `--cert-file=${options.tls.cert}`,
            `--key-file=${options.tls.key}`,
            `--trusted-ca-file=${options.tls.ca}`,
          ]
        : []),
      ...(options.flags ?? []),
    ]),
  );
  const endpoints = plans.map(({ client }) => client);
  const stop = async () => {
    await Promise.all(members.map((member) => member.kill()));
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await Promise.all(members.map((member) => member.start()));
  } catch (err) {
    await stop();
    throw err;
  }
  const ctl = async (...args: readonly string[]) => {
    const up = members.filter(({ answers }) => answers);
    const urls = up.map(({ endpoint }) => `${scheme}://${endpoint}`).join(",");
    return await etcdctl([`--endpoints=${urls}`, ...ctlFlags, ...args]);
  };
  return {
    members,
    endpoints,
    ctl,
    async leader() {
      const deadlineMs = performance.now() + START_TIMEOUT_MS;
      while (performance.now() < deadlineMs) {
        for (const member of members) {
          if (!member.answers) continue;
          const status = await statusOf(`${scheme}://${member.endpoint}`, ctlFlags);
          if (status && status.id === status.leader) return member;
        }
        await pollDelay();
      }
      throw new Error("the cluster has no leader");
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** What a member says of itself and its leader; undefined when it does not answer or knows no leader. */
async function statusOf(
  url: string,
  flags: readonly string[],
): Promise<{ id: string; leader: string } | undefined> {
  const args = [`--endpoints=${url}`, ...flags, "endpoint", "status", "--write-out=json"];
  const stdout = await etcdctl(args).catch(() => "");
  // The IDs exceed what a JSON number keeps exactly, so they are taken as text.
  const id = /"member_id":(\d+)/.exec(stdout)?.[1];
  const leader = /"leader":(\d+)/.exec(stdout)?.[1];
  return id !== undefined && leader !== undefined && leader !== "0" ? { id, leader } : undefined;
}

async function etcdctl(args: readonly string[]): Promise<string> {
  const { stdout } = await execute("etcdctl", args, { env: { ...process.env, ETCDCTL_API: "3" } });
  return stdout;
}

interface Running {
  readonly child: ChildProcess;
  readonly exited: Promise<void>;
}

function createMember(
  name: string,
  endpoint: string,
  status: () => Promise<object | undefined>,
  flags: readonly string[],
): EtcdMember {
  let paused = false;
  let running: Running | undefined;
  let log = "";

  return {
    name,
    endpoint,
    get pid() {
      return running?.child.pid;
    },
    get answers() {
      return running !== undefined && !paused;
    },
    async kill() {
      if (!running) return;
      running.child.kill("SIGKILL");
      await running.exited;
    },
    pause() {
      paused = true;
      running?.child.kill("SIGSTOP");
    },
    resume() {
      paused = false;
      running?.child.kill("SIGCONT");
    },
    async start(further = []) {
      if (running) throw new Error(`${name} is running`);
      log = "";
      paused = false;
      const child = spawn("etcd", [...flags, ...further], { stdio: ["ignore", "ignore", "pipe"] });
      child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
        log = (log + chunk).slice(-4_000);
      });
      // Nothing stays behind when the test process ends early.
      const endWithUs = () => child.kill("SIGKILL");
      process.once("exit", endWithUs);
      const exited = new Promise<void>((resolve) => {
        const end = () => {
          process.off("exit", endWithUs);
          running = undefined;
          resolve();
        };
        child.once("exit", end);
        child.once("error", (err) => {
          log += String(err);
          end();
        });
      });
      running = { child, exited };
      const deadlineMs = performance.now() + START_TIMEOUT_MS;
      while (!(await status())) {
        if (!running || performance.now() > deadlineMs) {
          child.kill("SIGKILL");
          throw new Error(`etcd ${name} did not come up: ${log}`);
        }
        await pollDelay();
      }
    },
  };
}

const pollDelay = () => new Promise<void>((resolve) => setTimeout(resolve, POLL_MS));

/** Ports that were free a moment ago, all different. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      return server;
    }),
  );
  const ports = servers.map((server) => {
    const address = server.address();
    return typeof address === "object" && address ? address.port : 0;
  });
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

export interface TestAuthority {
  /** Paths of PEM files: the authority, and a certificate for 127.0.0.1 and localhost with its key. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** Makes a throwaway authority and one certificate in a directory. */
export async function createTestAuthority(directory: string): Promise<TestAuthority> {
  const file = (name: string) => join(directory, name);
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const openssl = (...args: string[]) => execute("openssl", args);
  await openssl(
    ...["req", "-x509", ...curve, "-days", "2", "-subj", "/CN=convoke test authority"],
    ...["-keyout", file("ca.key"), "-out", file("ca.pem")],
  );
  await openssl(
    ...["req", "-x509", ...curve, "-days", "2", "-subj", "/CN=etcd"],
    ...["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"],
    ...["-addext", "extendedKeyUsage=serverAuth,clientAuth"],
    ...["-addext", "basicConstraints=critical,CA:FALSE"],
    ...["-CA", file("ca.pem"), "-CAkey", file("ca.key")],
    ...["-keyout", file("etcd.key"), "-out", file("etcd.pem")],
  );
  return { ca: file("ca.pem"), cert: file("etcd.pem"), key: file("etcd.key") };
}
