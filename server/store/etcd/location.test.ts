import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseEtcdLocation, readEtcdFiles } from "./location.ts";

describe("an etcd location", () => {
  it.each([
    ["etcd://127.0.0.1:2379", { endpoints: ["127.0.0.1:2379"], tls: false }],
    [
      "etcd://a:1,b,[::1]:3,[fe80::1]",
      { endpoints: ["a:1", "b:2379", "[::1]:3", "[fe80::1]:2379"], tls: false },
    ],
    ["etcd://a/", { endpoints: ["a:2379"], tls: false }],
    ["etcd://a/one/two//", { endpoints: ["a:2379"], tls: false, prefix: "one/two/" }],
    ["etcd://a/caf%C3%A9", { endpoints: ["a:2379"], tls: false, prefix: "café/" }],
    ["etcd://a?tls", { endpoints: ["a:2379"], tls: true }],
    [
      "etcd://a/p?ca=/etc/ca.pem&cert=c.pem&key=k.pem",
      { endpoints: ["a:2379"], tls: true, prefix: "p/", ca: "/etc/ca.pem", cert: "c.pem", key: "k.pem" },
    ],
    [
      "etcd://a?user=convoke&password-file=/run/secret",
      { endpoints: ["a:2379"], tls: false, user: "convoke", passwordFile: "/run/secret" },
    ],
  ])("is read: %s", (location, expected) => {
    expect(parseEtcdLocation(location)).toEqual(expected);
  });

  it.each([
    ["etcd://", "write etcd://"],
    ["etcd:a", "write etcd://"],
    ["etcd:///prefix", "write etcd://"],
    ["etcd://a:99999", "not host:port"],
    ["etcd://a:0", "not host:port"],
    ["etcd://a,,b", "not host:port"],
    ["etcd://:2379", "not host:port"],
    ["etcd://::1:2379", "not host:port"],
    ["etcd://user:secret@a", "password in a file"],
    ["etcd://a?password=x", "no option password"],
    ["etcd://a?cert=c", "cert and key"],
    ["etcd://a?user=u", "user and password-file"],
    ["etcd://a?ca=", "ca is empty"],
    ["etcd://a?ca=1&ca=2", "twice"],
    ["etcd://a?tls=maybe", "true or false"],
    ["etcd://a?tls=false&ca=1", "switches off"],
    ["etcd://a/%ff", "prefix"],
    [`etcd://a/${"p".repeat(1_025)}`, "prefix"],
  ])("is refused with a reason: %s", (location, reason) => {
    expect(() => parseEtcdLocation(location)).toThrow(reason);
  });

  it("names files that are read when it is opened", async () => {
    const directory = await mkdtemp(join(tmpdir(), "convoke-location-"));
    try {
      const path = (name: string) => join(directory, name);
      await writeFile(path("password"), "with space \n");
      await writeFile(path("ca"), "PEM");
      const query = `user=u&password-file=${path("password")}&ca=${path("ca")}`;
      expect(await readEtcdFiles(parseEtcdLocation(`etcd://a?${query}`))).toEqual({
        auth: { user: "u", password: "with space " },
        tls: { ca: Buffer.from("PEM") },
      });
      expect(await readEtcdFiles(parseEtcdLocation("etcd://a?tls"))).toEqual({ tls: {} });
      await expect(readEtcdFiles(parseEtcdLocation(`etcd://a?ca=${path("none")}`))).rejects.toThrow("none");
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
});
