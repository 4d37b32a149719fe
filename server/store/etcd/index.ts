export { createEtcdStore, type EtcdStoreOptions } from "./etcd-store.ts";
export { type EtcdLocation, parseEtcdLocation, readEtcdFiles } from "./location.ts";
