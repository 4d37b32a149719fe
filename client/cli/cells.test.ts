import { expect, test } from "vitest";
import { labelsCell, shortDuration, textCell } from "./cells.ts";
import { createTable } from "./table.ts";

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;

test.each([
  [-5 * SECOND_MS, "0s"],
  [0, "0s"],
  [119 * SECOND_MS, "119s"],
  [2 * MINUTE_MS, "2m"],
  [119 * MINUTE_MS, "119m"],
  [2 * HOUR_MS, "2h"],
  [47 * HOUR_MS, "47h"],
  [48 * HOUR_MS, "2d"],
  [1_000 * HOUR_MS, "41d"],
])("%d ms is %s", (ms, text) => {
  expect(shortDuration(ms)).toBe(text);
});

test.each([
  ["", "-"],
  ["  \n ", "-"],
  ["Jour fixe – 日本", "Jour fixe – 日本"],
  ["a\u001b]0;title\u0007b", "ab"],
  ["a\r\nb\tc\u0000", "a b c"],
  ["safe\u202Eevil", "safe evil"],
])("%j cannot steer a terminal", (text, cell) => {
  expect(textCell(text)).toBe(cell);
});

test("labels come in order of their keys", () => {
  expect(labelsCell({ b: "2", a: "1" })).toBe("a=1,b=2");
  expect(labelsCell({})).toBe("-");
});

test("a table in pieces has one header, and columns that only grow", () => {
  const table = createTable<readonly [string, string]>(
    [
      { header: "ID", cell: ([id]) => id },
      { header: "NAME", cell: ([, name]) => name },
    ],
    0,
  );
  expect(table([["long-one", "x"]])).toBe("ID         NAME\nlong-one   x");
  expect(table([["a", "y"]])).toBe("a          y");
});
