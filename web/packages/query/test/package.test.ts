// The package as it is published: packed, then installed into empty apps.
import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { publint } from "publint";
import { rolldown } from "rolldown";
import { afterAll, beforeAll, expect, test } from "vitest";
import { rev, StreamServer } from "./server.js";

const run = promisify(execFile);
const root = resolve(import.meta.dirname, "..");
const modules = resolve(root, "../../node_modules");
const bin = (name: string) => join(modules, ".bin", name);
const patience = 240_000;
let folder: string;
let tarball: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "freshet-package-"));
  // Built by `npm test`; building again would pull the files from under others.
  await run("npm", ["pack", "--ignore-scripts", "--pack-destination", folder], { cwd: root });
  tarball = join(folder, readdirSync(folder)[0]!);
}, patience);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** An empty app with the package, and with others as they are installed here: no registry is asked. */
async function install(name: string, ...others: string[]): Promise<string> {
  const app = join(folder, name);
  mkdirSync(app);
  const local = ["eventsource-parser", ...others].map((other) => [other, `file:${join(modules, other)}`]);
  const dependencies = { "@freshet/query": `file:${tarball}`, ...Object.fromEntries(local) };
  writeFileSync(join(app, "package.json"), JSON.stringify({ private: true, type: "module", dependencies }));
  const quiet = ["--offline", "--ignore-scripts", "--no-audit", "--no-fund", "--install-links", "--cache", join(folder, "cache")];
  await run("npm", ["install", ...quiet], { cwd: app });
  return app;
}

test("publint has nothing to say", async () => {
  const file = readFileSync(tarball);
  const archive = file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength) as ArrayBuffer;
  const { messages } = await publint({ pack: { tarball: archive }, strict: true });
  expect(messages).toEqual([]);
});

test("the types are right for every import", async () => {
  const analysis = await checkPackage(createPackageFromTarballData(readFileSync(tarball)));
  if (!analysis.types) throw new Error("it has no types");
  expect(Object.keys(analysis.entrypoints)).toContain("./tanstack");
  // It has ES modules alone: `require` of one, and resolution as before exports, are not for it.
  const others = ["node10", "node16-cjs"];
  const wrong = analysis.problems.filter((problem) => !("resolutionKind" in problem) || !others.includes(problem.resolutionKind));
  expect(wrong).toEqual([]);
});

test("works in an app without React, Connect and TanStack Query", { timeout: patience }, async () => {
  const app = await install("plain");
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
  const app = await install("full", ...peers, "@types/react", "csstype");
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
  ["index", 11_200],
  ["react", 800],
  ["connect", 5000],
  ["tanstack", 6500],
  ["connect-query", 19_200],
])("compressed and without peers %s has at most %d bytes", async (entry, most) => {
  const bundle = await rolldown({
    input: join(root, "dist", `${entry}.js`),
    external: [/^@bufbuild\//, /^@connectrpc\//, /^@tanstack\//, /^react$/],
  });
  const { output } = await bundle.generate({ format: "es", minify: true });
  const chunks = output.filter((file) => file.type === "chunk");
  const first = new Set(chunks.filter(({ isEntry }) => isEntry));
  for (const { imports } of first) for (const chunk of chunks) if (imports.includes(chunk.fileName)) first.add(chunk);
  const sizeOf = (list: Iterable<{ code: string }>) =>
    [...list].reduce((sum, { code }) => sum + gzipSync(code, { level: 9 }).length, 0);
  const size = sizeOf(first);
  const later = sizeOf(chunks) - size;
  console.log(`${entry}: ${size} bytes${later > 0 ? `, and ${later} when tabs share` : ""}`);
  expect(size).toBeLessThanOrEqual(most);
  expect(later).toBeLessThanOrEqual(4000);
});
