import { once } from "node:events";
import { readdir, readFile, readlink } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";

/** A TCP proxy on loopback that cuts single processes off from a server, and lets the others pass. */
export interface SourceProxy extends AsyncDisposable {
  /** `127.0.0.1:port`. */
  readonly address: string;
  /**
   * From now on nothing passes between these processes and the server. Nobody is told: connections stay open, and new
   * ones are taken.
   */
  cutOff(...pids: readonly number[]): Promise<void>;
  /** Lets everything pass again, and what was held arrives, as it does when TCP sends it again. */
  heal(): void;
}

interface Link {
  readonly client: Socket;
  readonly server: Socket;
}

/** @param target where the server listens, or will, `host:port` */
export async function startSourceProxy(target: string): Promise<SourceProxy> {
  const links = new Set<Link>();
  const held = new Set<Socket>();
  const strangers = new Set<number>();

  const end = (link: Link) => {
    links.delete(link);
    held.delete(link.client);
    link.client.destroy();
    link.server.destroy();
  };

  const hold = ({ client, server }: Link) => {
    for (const socket of [client, server]) socket.unpipe().pause();
    held.add(client);
  };

  const pass = ({ client, server }: Link) => {
    held.delete(client);
    client.pipe(server).pipe(client);
  };

  async function accept(client: Socket) {
    client.on("error", () => {});
    const port = client.remotePort ?? 0;
    const isStranger = (await Promise.all([...strangers].map(portsOf))).some((ports) => ports.has(port));
    const [host, serverPort] = target.split(":");
    const server = connect(Number(serverPort), host);
    const link: Link = { client, server };
    links.add(link);
    for (const socket of [client, server]) {
      socket.on("error", () => {});
      socket.on("close", () => end(link));
    }
    if (isStranger) hold(link);
    else pass(link);
  }

  const listener = createServer({ noDelay: true, pauseOnConnect: true }, (client) => {
    accept(client).catch(() => client.destroy());
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const bound = listener.address();
  if (bound === null || typeof bound === "string") throw new Error("not a TCP address");

  return {
    address: `127.0.0.1:${bound.port}`,
    async cutOff(...pids) {
      for (const pid of pids) strangers.add(pid);
      const ports = new Set((await Promise.all(pids.map(portsOf))).flatMap((each) => [...each]));
      for (const link of links) if (ports.has(link.client.remotePort ?? 0)) hold(link);
    },
    heal() {
      strangers.clear();
      for (const link of links) if (held.has(link.client)) pass(link);
    },
    async [Symbol.asyncDispose]() {
      const closed = once(listener, "close");
      listener.close();
      for (const link of links) end(link);
      await closed;
    },
  };
}

/** A port that was free a moment ago, for a server that is told behind which proxy it is before it listens. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const bound = server.address();
  server.close();
  await once(server, "close");
  return typeof bound === "object" && bound ? bound.port : 0;
}

/** The local ports of a process's TCP sockets: Linux tells which sockets are whose, and where each ends. */
async function portsOf(pid: number): Promise<Set<number>> {
  const directory = `/proc/${pid}/fd`;
  const names = await readdir(directory);
  const targets = await Promise.all(names.map((name) => readlink(`${directory}/${name}`).catch(() => "")));
  const inodes = new Set(targets.flatMap((text) => /^socket:\[(\d+)\]$/.exec(text)?.[1] ?? []));
  const table = (await readFile(`/proc/${pid}/net/tcp`, "utf8")).trim().split("\n").slice(1);
  const ports = new Set<number>();
  for (const line of table) {
    // sl, local address, remote address, state, queues, timer, retransmits, uid, timeout, inode
    const [, local, , , , , , , , inode] = line.trim().split(/\s+/);
    if (inode !== undefined && inodes.has(inode)) ports.add(Number.parseInt(local?.split(":")[1] ?? "", 16));
  }
  return ports;
}
