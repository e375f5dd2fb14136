import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { bundle } from "./packed.js";

// `freshet conformance client` judges the package as it would anybody's client, by all
// cases of docs/conformance.md. They are served by Go, which builds the judge first.
test("passes the conformance kit", { timeout: 300_000 }, async () => {
  const dir = await mkdtemp(join(tmpdir(), "conformance-"));
  try {
    const adapter = await bundle(fileURLToPath(new URL("./conformance/adapter.ts", import.meta.url)), dir);
    const root = fileURLToPath(new URL("../../../../", import.meta.url));
    const judge = ["run", "./cmd/freshet", "conformance", "client", "--patience", "20s"];
    const { stdout } = await promisify(execFile)("go", [...judge, "node", adapter], { cwd: root }).catch(
      (failed: { stdout: string; stderr: string }) => failed, // it says which cases
    );
    expect(stdout).toMatch(/^\d+ cases, \d+ passed, 0 failed$/m);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
