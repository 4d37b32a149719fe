import { readFileSync } from "node:fs";

/** The version in the package.json of this program: two folders up from the sources, three from what is built. */
export function readVersion(): string {
  for (const path of ["../../package.json", "../../../package.json"]) {
    let text: string;
    try {
      text = readFileSync(new URL(path, import.meta.url), "utf8");
    } catch {
      continue;
    }
    const { name, version } = JSON.parse(text) as { name?: string; version?: string };
    if (name === "convoke" && version) return version;
  }
  return "unknown";
}
