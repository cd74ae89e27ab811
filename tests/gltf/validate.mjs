// Prints the Khronos validator's report on one GLB as JSON: node validate.mjs FILE.glb
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

// require, not import: it also looks along NODE_PATH, so that the package may be installed elsewhere.
const validator = createRequire(import.meta.url)("gltf-validator");
const report = await validator.validateBytes(new Uint8Array(await readFile(process.argv[2])), { maxIssues: 50 });
console.log(JSON.stringify(report.issues));
