import { expect, test } from "vitest";
import { paginate } from "./paginate.ts";

interface NumberPage {
  readonly items: readonly number[];
  readonly nextPageToken: string;
}

function pagesOf(pages: Readonly<Record<string, NumberPage>>) {
  const asked: string[] = [];
  const list = async (token: string): Promise<NumberPage> => {
    asked.push(token);
    const page = pages[token];
    if (!page) throw new Error(`no page ${token}`);
    return page;
  };
  return { asked, all: () => paginate(list, (page) => page.items) };
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

const THREE_PAGES = {
  "": { items: [1, 2], nextPageToken: "a" },
  a: { items: [], nextPageToken: "b" },
  b: { items: [3], nextPageToken: "" },
};

test("all pages are gone through in order, empty ones too", async () => {
  const { all, asked } = pagesOf(THREE_PAGES);
  expect(await collect(all())).toEqual([1, 2, 3]);
  expect(asked).toEqual(["", "a", "b"]);
});

test("no page is asked for before the one before has been taken", async () => {
  const { all, asked } = pagesOf(THREE_PAGES);
  for await (const item of all()) if (item === 2) break;
  expect(asked).toEqual([""]);
});

test("an error of a later page comes after the items before it", async () => {
  const { all } = pagesOf({ "": { items: [1], nextPageToken: "gone" } });
  const seen: number[] = [];
  await expect(async () => {
    for await (const item of all()) seen.push(item);
  }).rejects.toThrow("no page gone");
  expect(seen).toEqual([1]);
});

test("a token that leads to itself ends the loop", async () => {
  const { all } = pagesOf({
    "": { items: [1], nextPageToken: "a" },
    a: { items: [2], nextPageToken: "a" },
  });
  await expect(collect(all())).rejects.toThrow("same page token");
});
