// Empties dist/ and puts the generated code where what is compiled will look for it: the compiler copies no .js files.
import { cpSync, rmSync } from "node:fs";

const dist = new URL("../dist/", import.meta.url);
rmSync(dist, { recursive: true, force: true });
cpSync(new URL("../proto/gen/", import.meta.url), new URL("proto/gen/", dist), { recursive: true });
