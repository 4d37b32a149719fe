import { expect, test } from "vitest";
import { decodePageToken, encodePageToken } from "./page-token.ts";

test("a token says where the next page begins", () => {
  expect(decodePageToken(encodePageToken("weekly-1"))).toBe("weekly-1");
  expect(decodePageToken("")).toBe("");
});

test.each(["weekly-1", "!!!!", `${encodePageToken("a")}=`, `${encodePageToken("a")} `])(
  "%j is not a token of ours",
  (token) => {
    expect(decodePageToken(token)).toBeUndefined();
  },
);
