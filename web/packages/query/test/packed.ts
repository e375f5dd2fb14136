// Packages as they are published: packed, and looked at.
import { execFile } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { publint } from "publint";
import { rolldown } from "rolldown";

export const run = promisify(execFile);
const modules = resolve(import.meta.dirname, "../../../node_modules");
export const bin = (name: string) => join(modules, ".bin", name);
/** Of what npm does. */
export const patience = 240_000;

/** Packs a package into a folder. It was built by `npm test`; building again would pull the files from under others. */
export async function pack(root: string, folder: string): Promise<string> {
  const into = join(folder, "packed");
  mkdirSync(into, { recursive: true });
  const before = new Set(readdirSync(into));
  await run("npm", ["pack", "--ignore-scripts", "--pack-destination", into], { cwd: root });
  return join(into, readdirSync(into).find((file) => !before.has(file))!);
}

/** An empty app with these tarballs, and with others as they are installed here: no registry is asked. */
export async function install(folder: string, name: string, tarballs: Record<string, string>, ...others: string[]): Promise<string> {
  const app = join(folder, name);
  mkdirSync(app);
  const packed = Object.entries(tarballs).map(([of, tarball]) => [of, `file:${tarball}`]);
  const local = ["eventsource-parser", ...others].map((other) => [other, `file:${join(modules, other)}`]);
  const dependencies = Object.fromEntries([...packed, ...local]);
  writeFileSync(join(app, "package.json"), JSON.stringify({ private: true, type: "module", dependencies }));
  const quiet = ["--offline", "--ignore-scripts", "--no-audit", "--no-fund", "--install-links", "--cache", join(folder, "cache")];
  await run("npm", ["install", ...quiet], { cwd: app });
  return app;
}

/** What publint says. */
export async function complaints(tarball: string): Promise<unknown[]> {
  const file = readFileSync(tarball);
  const archive = file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength) as ArrayBuffer;
  return (await publint({ pack: { tarball: archive }, strict: true })).messages;
}

/** What arethetypeswrong says, and of which entry points. */
export async function wrongTypes(tarball: string): Promise<{ entrypoints: string[]; wrong: unknown[] }> {
  const analysis = await checkPackage(createPackageFromTarballData(readFileSync(tarball)));
  if (!analysis.types) throw new Error("it has no types");
  // It has ES modules alone: `require` of one, and resolution as before exports, are not for it.
  const others = ["node10", "node16-cjs"];
  const wrong = analysis.problems.filter((problem) => !("resolutionKind" in problem) || !others.includes(problem.resolutionKind));
  return { entrypoints: Object.keys(analysis.entrypoints), wrong };
}

/** The bytes that a README says behind these words, as "5.3" for 5,300; NaN: it doesn't say. */
export function claimed(root: string, words: string): number {
  const text = readFileSync(join(root, "README.md"), "utf8");
  const said = text.split(words).find((after, n) => n > 0 && /^\d/.test(after)) ?? "";
  return Number.parseFloat(said) * 1000;
}

/** Bytes of an entry point, compressed: what a page loads to begin with, and what it loads later. */
export async function sizeOf(input: string, ...external: RegExp[]): Promise<{ first: number; later: number }> {
  const { output } = await (await rolldown({ input, external })).generate({ format: "es", minify: true });
  const chunks = output.filter((file) => file.type === "chunk");
  const first = new Set(chunks.filter(({ isEntry }) => isEntry));
  for (const { imports } of first) for (const chunk of chunks) if (imports.includes(chunk.fileName)) first.add(chunk);
  const bytes = (list: Iterable<{ code: string }>) => [...list].reduce((sum, { code }) => sum + gzipSync(code, { level: 9 }).length, 0);
  const size = bytes(first);
  return { first: size, later: bytes(chunks) - size };
}

/** One file for Node with all that a program of the tests needs, for Go to start. */
export async function bundle(input: string, dir: string): Promise<string> {
  const file = basename(input).replace(/\.ts$/, ".mjs");
  const built = await rolldown({ input, platform: "node" });
  await built.write({ dir, format: "esm", entryFileNames: file, chunkFileNames: "[name]-[hash].mjs" });
  return join(dir, file);
}
