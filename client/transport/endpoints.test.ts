import { expect, test } from "vitest";
import { parseEndpoints } from "./endpoints.ts";

test("endpoints are written with commas between or as a list, and count once", () => {
  expect(parseEndpoints("127.0.0.1:7400")).toEqual(["127.0.0.1:7400"]);
  expect(parseEndpoints("a:1, [::1]:2 ,a:1")).toEqual(["a:1", "[::1]:2"]);
  expect(parseEndpoints(["b:1", "a:1,c:3"])).toEqual(["b:1", "a:1", "c:3"]);
});

test.each([["a"], ["a:1,"], [""], ["a:1,b"], [[]]])("%j names no endpoints", (text) => {
  expect(() => parseEndpoints(text)).toThrow(TypeError);
});
