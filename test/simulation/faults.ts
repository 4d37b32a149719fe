import type { Chance } from "./chance.ts";
import { CALM_MS } from "./scenario.ts";
import type { SimulatedProcess } from "./simulated-process.ts";
import type { World } from "./world.ts";

/** Something that goes wrong, for a while. */
interface Fault {
  /** What goes wrong, and with whom. */
  readonly name: string;
  readonly lastsMs: number;
  begin(): void;
  /** Mends it; called once, at the latest when the world is healed. */
  end(): void;
  /** Whether it is between the control plane and somebody, or inside it. */
  readonly isControlPlane: boolean;
}

/** What goes wrong in how many parts of all faults. */
type Draw = readonly [parts: number, draw: (world: World, chance: Chance) => Fault];

const DRAWS: readonly Draw[] = [
  [3, killDispatcher],
  [3, pauseDispatcher],
  [1, restartAllDispatchers],
  [3, killServer],
  [2, restartServer],
  [3, restartAgent],
  [3, freezeServer],
  [2, isolateServer],
  [3, cutObserver],
  [1, blackOutObservers],
  [2, loseHalf],
  [2, flap],
  [2, killReplica],
  [2, pauseReplica],
  [3, stallWatch],
  [2, loseStore],
  [2, loseReplies],
  [4, slowLink],
  [2, cutFromControlPlane],
  [1, failStarts],
  [4, comeLate],
  [4, strandStarts],
];

const TOTAL = DRAWS.reduce((sum, [parts]) => sum + parts, 0);

function drawFault(world: World, chance: Chance): Fault & { readonly kind: string } {
  let left = chance.next() * TOTAL;
  const [, draw] = DRAWS.find(([parts]) => {
    left -= parts;
    return left < 0;
  }) ?? [1, killDispatcher];
  return { ...draw(world, chance), kind: draw.name };
}

/** Draws what goes wrong and when, and mends everything when it is time. */
export function planFaults(world: World, chance: Chance): void {
  const { time, scenario, trace } = world;
  const ongoing = new Set<Fault>();
  const { faults } = world.figures;

  function begin(fault: Fault) {
    trace.event("fault", () => `${fault.name} for ${Math.round(fault.lastsMs)} ms`);
    world.invariants.truth.note();
    ongoing.add(fault);
    if (fault.isControlPlane) world.controlPlaneTroubles += 1;
    fault.begin();
    world.invariants.truth.note();
    time.at(time.nowMs + fault.lastsMs, () => end(fault));
  }

  function end(fault: Fault) {
    if (!ongoing.delete(fault)) return;
    trace.event("fault", () => `end of ${fault.name}`);
    world.invariants.truth.note();
    if (fault.isControlPlane) world.controlPlaneTroubles -= 1;
    fault.end();
    world.invariants.truth.note();
  }

  for (let count = chance.whole(0, 5); count > 0; count--) {
    const atMs = chance.between(CALM_MS, scenario.stormUntilMs);
    const fault = drawFault(world, chance);
    time.at(atMs, () => begin(fault));
    faults[fault.kind] = (faults[fault.kind] ?? 0) + 1;
  }
  time.at(scenario.healMs, () => {
    for (const fault of [...ongoing]) end(fault);
    trace.event("fault", () => "all is mended");
  });
}

function fault(
  name: string,
  lastsMs: number,
  begin: () => void,
  end: () => void,
  isControlPlane = false,
): Fault {
  return { name, lastsMs, begin, end, isControlPlane };
}

/** Starts what is dead, unless another fault has done so. */
function revive(node: { readonly process: SimulatedProcess; start(): void }) {
  if (node.process.state === "killed") node.start();
}

function killDispatcher(world: World, chance: Chance): Fault {
  const node = chance.pick(world.dispatchers);
  return fault(
    `kill ${node.id}`,
    chance.between(55, 4_950),
    () => node.process.kill(),
    () => revive(node),
  );
}

function pauseDispatcher(world: World, chance: Chance): Fault {
  const node = chance.pick(world.dispatchers);
  let { process } = node;
  return fault(
    `pause ${node.id}`,
    chance.between(165, 6_600),
    () => {
      process = node.process;
      process.pause();
    },
    () => process.resume(),
  );
}

function restartAllDispatchers(world: World, chance: Chance): Fault {
  return fault(
    "restart all dispatchers",
    chance.between(27, 2_200),
    () => {
      for (const { process } of world.dispatchers) process.kill();
    },
    () => {
      for (const node of world.dispatchers) revive(node);
    },
  );
}

function killServer(world: World, chance: Chance): Fault {
  const server = chance.pick(world.servers);
  return fault(
    `kill ${server.id}`,
    chance.between(550, 8_250),
    () => server.process.kill(),
    () => revive(server),
  );
}

function restartServer(world: World, chance: Chance): Fault {
  const server = chance.pick(world.servers);
  return fault(
    `restart ${server.id}`,
    chance.between(1, 440),
    () => server.process.kill(),
    () => revive(server),
  );
}

/** The agent alone, where the rooms can do without it. In half of the cases it says before that it will be back. */
function restartAgent(world: World, chance: Chance): Fault {
  const candidates = world.servers.filter(({ keepsRooms }) => keepsRooms);
  const server = chance.pick(candidates);
  if (candidates.length === 0) return killServer(world, chance);
  const awayMs = chance.between(10, 4_000);
  const withinMs = chance.between(500, 8_000);
  const announces = chance.happens(0.5);
  let over = false;
  const kill = () => {
    if (over) return;
    world.invariants.truth.note();
    server.agent.kill();
    world.invariants.truth.note();
  };
  return fault(
    `restart the agent of ${server.id}${announces ? `, back within ${Math.round(withinMs)} ms` : ""}`,
    awayMs,
    () => {
      if (!announces) return kill();
      // It waits for the answer; where none comes it is killed by its supervisor.
      let told = false;
      const go = () => {
        if (!told) kill();
        told = true;
      };
      void server.announceRestart(withinMs).then(go, go);
      world.time.at(world.time.nowMs + awayMs / 2, go);
    },
    () => {
      over = true;
      if (server.agent.state === "killed" && server.process.state !== "killed") server.startAgent();
    },
  );
}

function freezeServer(world: World, chance: Chance): Fault {
  const server = chance.pick(world.servers);
  return fault(
    `freeze ${server.id}`,
    chance.between(275, 11_000),
    () => server.process.pause(),
    () => server.process.resume(),
  );
}

/** The machine goes on, and nobody reaches it. */
function isolateServer(world: World, chance: Chance): Fault {
  const { id } = chance.pick(world.servers);
  const nodes = [...world.replicas, ...world.dispatchers].map((node) => node.id);
  const loses = chance.happens(0.5);
  return fault(
    `isolate ${id}`,
    chance.between(550, 9_900),
    () => {
      for (const node of nodes) world.network.cut(id, node, loses);
    },
    () => {
      for (const node of nodes) world.network.heal(id, node);
    },
    true,
  );
}

/** One observer loses one server, or all of them. */
function cutObserver(world: World, chance: Chance): Fault {
  const dispatcher = chance.pick(world.dispatchers).id;
  const servers = chance.happens(0.6) ? [chance.pick(world.servers).id] : world.servers.map(({ id }) => id);
  const loses = chance.happens(0.5);
  return fault(
    `cut ${dispatcher} from ${servers.join(", ")}`,
    chance.between(550, 8_250),
    () => {
      for (const id of servers) world.network.cut(dispatcher, id, loses);
    },
    () => {
      for (const id of servers) world.network.heal(dispatcher, id);
    },
  );
}

/** Long enough to call all servers failed. */
const BLACKOUT_MS = 3_000;

/** All observers lose all servers for a while. */
function blackOutObservers(world: World, chance: Chance): Fault {
  const pairs = world.dispatchers.flatMap(({ id }) =>
    world.servers.map((server) => [id, server.id] as const),
  );
  const loses = chance.happens(0.5);
  const { blackout } = world.invariants.truth;
  let cut: typeof pairs = [];
  return fault(
    "cut all observers from all servers",
    BLACKOUT_MS,
    () => {
      // What is cut for another reason stays so.
      cut = pairs.filter(([a, b]) => !world.network.isCut(a, b));
      for (const [a, b] of cut) {
        blackout.add(`${a} ${b}`);
        world.network.cut(a, b, loses);
      }
    },
    () => {
      for (const [a, b] of cut) {
        blackout.delete(`${a} ${b}`);
        world.network.heal(a, b);
      }
    },
  );
}

/** Half of the servers go at once, each in its way or all in one. */
function loseHalf(world: World, chance: Chance): Fault {
  const servers = chance.some(world.servers, Math.ceil(world.servers.length / 2));
  const frozen = chance.happens(0.5);
  return fault(
    `${frozen ? "freeze" : "kill"} ${servers.map(({ id }) => id).join(", ")} at once`,
    chance.between(2_200, 8_250),
    () => {
      for (const { process } of servers) frozen ? process.pause() : process.kill();
    },
    () => {
      for (const server of servers) frozen ? server.process.resume() : revive(server);
    },
  );
}

/** A server that comes and goes. */
function flap(world: World, chance: Chance): Fault {
  const server = chance.pick(world.servers);
  const frozen = chance.happens(0.4);
  const upMs = chance.between(165, 1_375);
  const downMs = chance.between(165, 1_925);
  let over = false;
  const goDown = () => {
    if (over) return;
    world.invariants.truth.note();
    frozen ? server.process.pause() : server.process.kill();
    world.invariants.truth.note();
    world.time.at(world.time.nowMs + downMs, comeUp);
  };
  const comeUp = () => {
    if (over) return;
    world.invariants.truth.note();
    frozen ? server.process.resume() : revive(server);
    world.invariants.truth.note();
    world.time.at(world.time.nowMs + upMs, goDown);
  };
  return fault(`flap ${server.id}`, chance.between(2_200, 8_800), goDown, () => {
    over = true;
    if (server.process.state === "paused") server.process.resume();
    revive(server);
  });
}

function killReplica(world: World, chance: Chance): Fault {
  const node = chance.pick(world.replicas);
  return fault(
    `kill ${node.id}`,
    chance.between(110, 3_300),
    () => node.process.kill(),
    () => revive(node),
    true,
  );
}

function pauseReplica(world: World, chance: Chance): Fault {
  const node = chance.pick(world.replicas);
  let { process } = node;
  return fault(
    `pause ${node.id}`,
    chance.between(165, 5_500),
    () => {
      process = node.process;
      process.pause();
    },
    () => process.resume(),
    true,
  );
}

/** The view stands still, and believes that it is fresh. */
function stallWatch(world: World, chance: Chance): Fault {
  const node = chance.pick(world.replicas);
  const lagMs = chance.happens(0.5) ? chance.between(27, 825) : 0;
  let { access } = node;
  return fault(
    `${lagMs > 0 ? "lag" : "stall"} the watch of ${node.id}`,
    chance.between(165, 2_750),
    () => {
      access = node.access;
      if (lagMs > 0) access.watchLagMs = lagMs;
      else access.setWatchStalled(true);
    },
    () => {
      access.watchLagMs = 0;
      access.setWatchStalled(false);
    },
    true,
  );
}

/** One replica or all of them lose the store. */
function loseStore(world: World, chance: Chance): Fault {
  const nodes = chance.happens(0.5) ? world.replicas : [chance.pick(world.replicas)];
  let accesses = nodes.map(({ access }) => access);
  return fault(
    `lose the store of ${nodes.map(({ id }) => id).join(", ")}`,
    chance.between(165, 3_300),
    () => {
      accesses = nodes.map(({ access }) => access);
      for (const access of accesses) access.setLost(true);
    },
    () => {
      for (const access of accesses) access.setLost(false);
    },
    true,
  );
}

function loseReplies(world: World, chance: Chance): Fault {
  const part = chance.between(0.1, 0.6);
  let accesses = world.replicas.map(({ access }) => access);
  return fault(
    `lose ${Math.round(part * 100)} % of the store's replies`,
    chance.between(550, 3_300),
    () => {
      accesses = world.replicas.map(({ access }) => access);
      for (const access of accesses) access.lostReplies = part;
    },
    () => {
      for (const access of accesses) access.lostReplies = 0;
    },
    true,
  );
}

/** What a dispatcher sends comes late: to a server, or to a replica. */
function slowLink(world: World, chance: Chance): Fault {
  const { id } = chance.pick(world.dispatchers);
  const toServer = chance.happens(0.5);
  const to = toServer ? chance.pick(world.servers).id : chance.pick(world.replicas).id;
  const byMs = chance.between(110, 2_200);
  const { slow } = world.invariants.truth;
  return fault(
    `slow ${id} to ${to} by ${Math.round(byMs)} ms`,
    chance.between(550, 4_950),
    () => {
      if (toServer) slow.add(`${id} ${to}`);
      world.network.slow(id, to, byMs);
    },
    () => {
      slow.delete(`${id} ${to}`);
      world.network.slow(id, to, 0);
    },
    !toServer,
  );
}

function cutFromControlPlane(world: World, chance: Chance): Fault {
  const { id } = chance.pick([...world.dispatchers, ...world.servers]);
  const loses = chance.happens(0.5);
  const replicas = chance.happens(0.5) ? world.replicas : [chance.pick(world.replicas)];
  return fault(
    `cut ${id} from ${replicas.map((node) => node.id).join(", ")}`,
    chance.between(275, 8_250),
    () => {
      for (const node of replicas) world.network.cut(id, node.id, loses);
    },
    () => {
      for (const node of replicas) world.network.heal(id, node.id);
    },
    true,
  );
}

function failStarts(world: World, chance: Chance): Fault {
  const server = chance.pick(world.servers);
  return fault(
    `fail starts on ${server.id}`,
    chance.between(550, 4_400),
    () => {
      server.failingStarts = 0.7;
    },
    () => {
      server.failingStarts = 0;
    },
  );
}

/**
 * What a dispatcher sends comes so late that its registration ends first, while the replicas hear late of that, and there
 * is work to do.
 */
function comeLate(world: World, chance: Chance): Fault {
  const { id } = chance.pick(world.dispatchers);
  const byMs = chance.between(0.2, 1.3) * world.scenario.ttlMs;
  const lagMs = chance.between(165, 1_375);
  const lastsMs = world.scenario.ttlMs + chance.between(550, 1_650);
  let accesses = world.replicas.map(({ access }) => access);
  return fault(
    `let ${id} come late by ${Math.round(byMs)} ms, and watches by ${Math.round(lagMs)} ms`,
    lastsMs,
    () => {
      accesses = world.replicas.map(({ access }) => access);
      for (const access of accesses) access.watchLagMs = lagMs;
      for (const node of world.replicas) world.network.slow(id, node.id, byMs);
      world.operator.bookMore(chance.whole(4, 8), lastsMs);
    },
    () => {
      for (const access of accesses) access.watchLagMs = 0;
      for (const node of world.replicas) world.network.slow(id, node.id, 0);
    },
    true,
  );
}

/** A dispatcher dies with starts on their way, which come when others have long placed those conferences. */
function strandStarts(world: World, chance: Chance): Fault {
  const node = chance.pick(world.dispatchers);
  const byMs = chance.between(275, 2_750);
  const killMs = chance.between(55, 825);
  let over = false;
  const { slow } = world.invariants.truth;
  const pairs = world.servers.map(({ id }) => `${node.id} ${id}`);
  return fault(
    `strand the starts of ${node.id} for ${Math.round(byMs)} ms`,
    killMs + chance.between(27, 2_200),
    () => {
      for (const pair of pairs) slow.add(pair);
      for (const { id } of world.servers) world.network.slow(node.id, id, byMs);
      world.operator.bookMore(chance.whole(4, 10), killMs);
      world.time.at(world.time.nowMs + killMs, () => {
        if (!over) node.process.kill();
      });
    },
    () => {
      over = true;
      for (const pair of pairs) slow.delete(pair);
      for (const { id } of world.servers) world.network.slow(node.id, id, 0);
      revive(node);
    },
  );
}
