import { once } from "node:events";
import { readdir, readFile, readlink } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";

/** A TCP proxy on loopback that cuts single processes off from a server, and lets the others pass. */
export interface SourceProxy extends AsyncDisposable {
  /** `127.0.0.1:port`. */
  readonly address: string;
  /** From now on nothing passes between this process and the server. Nobody is told: what is sent is swallowed. */
  cutOff(pid: number): Promise<void>;
  /** Ends that; what was swallowed is lost. */
  heal(): void;
}

interface Link {
  readonly client: Socket;
  readonly server: Socket;
  isCutOff: boolean;
}

/** @param target where the server listens, `host:port`; asked with each connection, so it may start later */
export async function startSourceProxy(target: () => string): Promise<SourceProxy> {
  const links = new Set<Link>();
  const strangers = new Set<number>();

  const end = (link: Link) => {
    links.delete(link);
    link.client.destroy();
    link.server.destroy();
  };

  function swallow(link: Link) {
    link.isCutOff = true;
    for (const socket of [link.client, link.server]) socket.unpipe().resume();
  }

  async function accept(client: Socket) {
    client.on("error", () => {});
    const port = client.remotePort ?? 0;
    const isStranger = (await Promise.all([...strangers].map(portsOf))).some((ports) => ports.has(port));
    const [host, serverPort] = target().split(":");
    const server = connect(Number(serverPort), host);
    const link: Link = { client, server, isCutOff: false };
    links.add(link);
    for (const socket of [client, server]) {
      socket.on("error", () => {});
      socket.on("close", () => end(link));
    }
    if (isStranger) return swallow(link);
    client.pipe(server).pipe(client);
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
    async cutOff(pid) {
      strangers.add(pid);
      const ports = await portsOf(pid);
      for (const link of links) if (ports.has(link.client.remotePort ?? 0)) swallow(link);
    },
    heal() {
      strangers.clear();
      for (const link of links) if (link.isCutOff) end(link);
    },
    async [Symbol.asyncDispose]() {
      const closed = once(listener, "close");
      listener.close();
      for (const link of links) end(link);
      await closed;
    },
  };
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
