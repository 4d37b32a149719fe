import type { Validator } from "../../common/rpc/validator.ts";
import { LIMITS } from "../settings.ts";

/** Where a page begins and how long it may be. */
export interface PageRequest {
  /** The key after which it begins; undefined for the first page. */
  readonly after: string | undefined;
  readonly size: number;
}

/** Checks `page_size` and `page_token` of a list request. */
export function readPage(check: Validator, request: { pageSize: number; pageToken: string }): PageRequest {
  const size = check.integer("page_size", request.pageSize, {
    min: 0,
    max: LIMITS.maxPageSize,
    fallback: LIMITS.defaultPageSize,
  });
  if (request.pageToken === "") return { after: undefined, size };
  const after = Buffer.from(request.pageToken, "base64url").toString();
  if (encodeToken(after) !== request.pageToken) {
    check.violation("page_token", "is not one that a list call returned");
  }
  return { after, size };
}

/** Takes one page of what passes the filter. The token is empty when nothing more comes. */
export function takePage<T>(
  tree: { entries(from?: string): Iterable<[string, T]> },
  { after, size }: PageRequest,
  accept: (value: T) => boolean = () => true,
): { items: T[]; nextPageToken: string } {
  const items: T[] = [];
  let last = "";
  for (const [key, value] of tree.entries(after)) {
    if (key === after || !accept(value)) continue;
    if (items.length === size) return { items, nextPageToken: encodeToken(last) };
    items.push(value);
    last = key;
  }
  return { items, nextPageToken: "" };
}

function encodeToken(key: string) {
  return Buffer.from(key).toString("base64url");
}
