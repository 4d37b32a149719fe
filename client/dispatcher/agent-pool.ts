import type { AgentClient } from "../transport/client.ts";

/** Clients of agents, one per conference server, kept while its address stays the same. */
export interface AgentPool extends Disposable {
  /** @throws {TypeError} when the address is not host:port */
  get(serverId: string, address: string): AgentClient;
  /** Closes the server's client. */
  drop(serverId: string): void;
}

export function createAgentPool(connect: (address: string) => AgentClient): AgentPool {
  const clients = new Map<string, { readonly address: string; readonly client: AgentClient }>();
  const drop = (serverId: string) => {
    clients.get(serverId)?.client.close();
    clients.delete(serverId);
  };
  return {
    get(serverId, address) {
      const known = clients.get(serverId);
      if (known?.address === address) return known.client;
      drop(serverId);
      const client = connect(address);
      clients.set(serverId, { address, client });
      return client;
    },
    drop,
    [Symbol.dispose]() {
      for (const serverId of [...clients.keys()]) drop(serverId);
    },
  };
}
