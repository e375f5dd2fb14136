// The package as it is published: packed, then installed into an empty app.
import { cpSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { TanStackDevtoolsPlugin } from "@tanstack/devtools";
import type { TanStackDevtoolsReactPlugin } from "@tanstack/react-devtools";
import { afterAll, beforeAll, expect, expectTypeOf, test } from "vitest";
import { bin, claimed, complaints, install, pack, patience, run, sizeOf, wrongTypes } from "../../query/test/packed.js";
import type { devtoolsPlugin } from "../src/plugin.js";
import type { reactPlugin } from "../src/react.js";

const root = resolve(import.meta.dirname, "..");
let folder: string;
let tarball: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "freshet-devtools-"));
  tarball = await pack(root, folder);
}, patience);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("publint has nothing to say", async () => {
  expect(await complaints(tarball)).toEqual([]);
});

test("the types are right for every import", async () => {
  const { entrypoints, wrong } = await wrongTypes(tarball);
  expect(entrypoints).toEqual([".", "./react", "./package.json"]);
  expect(wrong).toEqual([]);
});

test("TanStack Devtools takes its plugins", () => {
  expectTypeOf<ReturnType<typeof devtoolsPlugin>>().toExtend<TanStackDevtoolsPlugin>();
  expectTypeOf<ReturnType<typeof reactPlugin>>().toExtend<TanStackDevtoolsReactPlugin>();
});

test("in an empty app, beside @freshet/query as that is packed", { timeout: patience }, async () => {
  const query = await pack(resolve(root, "../query"), folder);
  const peers = ["@tanstack/query-core", "react", "@types/react", "csstype"];
  const app = await install(folder, "app", { "@freshet/query": query, "@freshet/devtools": tarball }, ...peers);
  expect(readdirSync(join(app, "node_modules/@freshet/devtools")).sort()).toEqual(["LICENSE", "README.md", "dist", "package.json"]);
  cpSync(join(import.meta.dirname, "consumer/app.tsx"), join(app, "app.tsx"));
  const options = ["--noEmit", "--strict", "--target", "es2022", "--jsx", "react-jsx", "--types", "react"];
  await run(bin("tsc"), [...options, "--module", "nodenext", "app.tsx"], { cwd: app }).catch((error: { stdout: string }) => expect.fail(error.stdout));
});

test.each([
  ["index", 6200, "without peers it is "],
  ["react", 5100, undefined],
])("compressed and without peers %s has at most %d bytes, and as many as the README says", async (entry, most, words) => {
  const { first } = await sizeOf(join(root, "dist", `${entry}.js`), /^@freshet\/query/, /^react/);
  console.log(`devtools/${entry}: ${first} bytes`);
  expect(first).toBeLessThanOrEqual(most);
  if (words) expect(claimed(root, words)).toBeCloseTo(first, -2); // to 50 bytes
});
