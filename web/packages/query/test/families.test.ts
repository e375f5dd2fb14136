import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { bundle } from "./packed.js";

// Topics out of the answer, for random schemas (rule 8): a page shows what Postgres holds
// after each step, as the Go clients do. Go has servers, database and moves, and starts
// the page; FAMILIES is for more steps than these, as flags of its test.
test("shows what Postgres holds", { timeout: process.env["FAMILIES"] ? 0 : 300_000 }, async () => {
  const dir = await mkdtemp(join(tmpdir(), "families-"));
  try {
    const page = await bundle(fileURLToPath(new URL("./families/client.ts", import.meta.url)), dir);
    const flags = (process.env["FAMILIES"] ?? "").split(" ").filter(Boolean);
    const model = ["test", "./internal/systemtest", "-run", "TestFamilies_G3_model", "-count=1", "-v", "-timeout", "6h"];
    const go = spawn("go", [...model, "-families.page", page, ...flags], {
      cwd: fileURLToPath(new URL("../../../../", import.meta.url)),
      stdio: ["ignore", "pipe", "inherit"],
    });
    let said = "";
    go.stdout.on("data", (text: Buffer) => {
      said = (said + text.toString()).slice(-100_000);
    });
    const code = await new Promise((resolve) => go.on("close", resolve));
    expect(code, said).toBe(0);
    expect(said).toContain("--- PASS: TestFamilies_G3_model");
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
