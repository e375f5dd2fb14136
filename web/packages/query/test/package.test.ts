// The package as it is published: packed, then installed into empty apps.
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bin, claimed, complaints, install, pack, patience, run, sizeOf, wrongTypes } from "./packed.js";
import { rev, StreamServer } from "./server.js";

const root = resolve(import.meta.dirname, "..");
let folder: string;
let tarball: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "freshet-package-"));
  tarball = await pack(root, folder);
}, patience);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("publint has nothing to say", async () => {
  expect(await complaints(tarball)).toEqual([]);
});

test("the types are right for every import", async () => {
  const { entrypoints, wrong } = await wrongTypes(tarball);
  expect(entrypoints).toContain("./tanstack");
  expect(wrong).toEqual([]);
});

test("works in an app without React, Connect and TanStack Query", { timeout: patience }, async () => {
  const app = await install(folder, "plain", { "@freshet/query": tarball });
  const installed = readdirSync(join(app, "node_modules")).filter((entry) => !entry.startsWith("."));
  expect(installed.sort()).toEqual(["@freshet", "eventsource-parser"]);
  expect(readdirSync(join(app, "node_modules/@freshet/query")).sort()).toEqual([
    "LICENSE",
    "README.md",
    "SPEC.md",
    "dist",
    "package.json",
    "proto",
  ]);

  const server = await StreamServer.start();
  try {
    writeFileSync(
      join(app, "main.js"),
      `import { Freshet } from "@freshet/query";
       const freshet = new Freshet({ url: process.argv[2] });
       freshet.subscribe({
         topics: ["books"],
         onInvalidate: ({ cause, topics, revision }) => {
           if (cause !== "invalidate") return;
           console.log(topics.join(), revision);
           freshet.close();
         },
       });`,
    );
    const done = run(process.execPath, ["main.js", server.url], { cwd: app, timeout: patience });
    const stream = await server.requests.next();
    stream.ready(rev(10));
    stream.invalidate(rev(11), ["books"]);
    expect((await done).stdout.trim()).toBe(`books ${rev(11)}`);
  } finally {
    await server.close();
  }
});

test("generated code and types fit, in an app with all peers", { timeout: patience }, async () => {
  const peers = ["@bufbuild/protobuf", "@connectrpc/connect", "@tanstack/query-core", "react"];
  const app = await install(folder, "full", { "@freshet/query": tarball }, ...peers, "@types/react", "csstype");
  cpSync(join(import.meta.dirname, "consumer/app.tsx"), join(app, "app.tsx"));
  mkdirSync(join(app, "proto"));
  cpSync(join(import.meta.dirname, "consumer/library.proto"), join(app, "proto/library.proto"));
  // As the README says.
  writeFileSync(join(app, "buf.yaml"), "version: v2\nmodules:\n  - path: proto\n  - path: node_modules/@freshet/query/proto\n");
  const plugin = {
    local: bin("protoc-gen-es"),
    out: "gen",
    opt: ["target=ts", "import_extension=js", "rewrite_imports=./freshet/**/*_pb.js:@freshet/query/gen"],
  };
  writeFileSync(
    join(app, "buf.gen.yaml"), // JSON is YAML
    JSON.stringify({ version: "v2", plugins: [plugin], inputs: [{ directory: "proto" }] }),
  );
  await run(bin("buf"), ["generate"], { cwd: app });
  expect(readdirSync(join(app, "gen"))).toEqual(["library_pb.ts"]);

  const options = ["--noEmit", "--strict", "--target", "es2022", "--jsx", "react-jsx", "--types", "react"];
  for (const how of [["nodenext", "nodenext"], ["esnext", "bundler"]]) {
    const [module, resolution] = how as [string, string];
    const all = [...options, "--module", module, "--moduleResolution", resolution, "app.tsx"];
    await run(bin("tsc"), all, { cwd: app }).catch((error: { stdout: string }) => expect.fail(error.stdout));
  }
});

// What a page loads to begin with. The sharing of tabs is loaded where it is used.
test.each([
  ["index", 11_800, "the core is "],
  ["react", 800, "`/react` "],
  ["connect", 5720, "`/connect` "],
  ["tanstack", 7670, "`/tanstack` "],
  ["connect-query", 20_900, undefined],
])("compressed and without peers %s has at most %d bytes, and as many as the README says", async (entry, most, words) => {
  const { first, later } = await sizeOf(join(root, "dist", `${entry}.js`), /^@bufbuild\//, /^@connectrpc\//, /^@tanstack\//, /^react$/);
  console.log(`${entry}: ${first} bytes${later > 0 ? `, and ${later} when tabs share` : ""}`);
  expect(first).toBeLessThanOrEqual(most);
  expect(later).toBeLessThanOrEqual(4000);
  if (words) expect(claimed(root, words)).toBeCloseTo(first, -2); // to 50 bytes
  if (words && later > 0) expect(claimed(root, "kB, and ")).toBeCloseTo(later, -2);
});
