import { type ControlPlane, openControlPlane } from "./control-plane.ts";
import { createFaultyStore, type FaultyStore } from "./faulty-store.ts";

/** A control plane with faults between it and its store, to be disposed of like any other. Not for restarts. */
export async function openFaulty(): Promise<{ readonly plane: ControlPlane; readonly faulty: FaultyStore }> {
  let faulty: FaultyStore | undefined;
  const plane = await openControlPlane({
    wrap(store) {
      faulty = createFaultyStore(store);
      return faulty.store;
    },
  });
  if (!faulty) throw new Error("the store was not opened");
  return { plane, faulty };
}
