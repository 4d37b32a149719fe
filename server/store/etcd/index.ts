export { createEtcdStore, type EtcdStoreOptions } from "./etcd-store.ts";
