import { expect, test } from "vitest";
import { createFences } from "./fences.ts";

test("a fence only rises", () => {
  const fences = createFences();
  fences.raise("a", 5n);
  fences.raise("a", 3n);
  expect(fences.get("a")).toBe(5n);
  expect(fences.get("b")).toBe(0n);
});

test("over the limit the fence raised longest ago makes room", () => {
  const fences = createFences(2);
  fences.raise("a", 1n);
  fences.raise("b", 1n);
  fences.raise("a", 1n);
  fences.raise("c", 1n);
  expect([fences.get("a"), fences.get("b"), fences.get("c")]).toEqual([1n, 0n, 1n]);
});
