// Writes the TypeScript of README.md, docs/library.md, docs/adopt-connect.md, `freshet init` and examples/tasks, and the
// code generated for it, to .docs, where `npm run typecheck` looks at it. (The Go is built and
// run by internal/doctest.)
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

const web = resolve(import.meta.dirname, "..");
const docs = join(web, ".docs");

/** The fenced blocks of a document that say which file they are. */
function blocksOf(document) {
  const text = readFileSync(join(web, "..", document), "utf8");
  return [...text.matchAll(/^```[a-z]+ file=(\S+)\n(.*?)^```$/gms)].map(([, file, code]) => ({ file, code }));
}

function write(file, code) {
  mkdirSync(dirname(join(docs, file)), { recursive: true });
  writeFileSync(join(docs, file), code);
}

rmSync(docs, { recursive: true, force: true });
const library = new Map(blocksOf("docs/library.md").map(({ file, code }) => [file, code]));
for (const [file, code] of library) {
  if (/\.(tsx|proto|yaml)$/.test(file)) write(file, code);
}
// The front page leaves the imports out.
const imports = library.get("web/app.tsx").match(/^import .*$/gm).join("\n");
const readme = blocksOf("README.md").find(({ file }) => file.endsWith(".tsx"));
write(readme.file, `${imports}\n${readme.code}`);

// Of the plugins only TypeScript's, as it is written there.
const [head, ...plugins] = library.get("buf.gen.yaml").split(/^(?= {2}- local: )/m);
write("buf.gen.yaml", head + plugins.filter((plugin) => plugin.includes("protoc-gen-es")).join(""));
cpSync(join(web, "packages/query/proto"), join(docs, "third_party"), { recursive: true });
execFileSync("buf", ["generate"], { cwd: docs, stdio: "inherit" });

// The page of docs/adopt-connect.md, before and after: lines that are kept or taken
// away, and lines that are kept or added.
const page = blocksOf("docs/adopt-connect.md").find(({ file }) => file === "web/app.tsx");
for (const [name, taken] of [["before", "+"], ["after", "-"]]) {
  const lines = page.code.split("\n").filter((line) => !line.startsWith(taken));
  write(`adopt/${name}.tsx`, lines.map((line) => line.slice(1)).join("\n"));
}
cpSync(join(docs, "web/gen"), join(docs, "adopt/gen"), { recursive: true });

// And the page that `freshet init` writes.
cpSync(join(web, "../internal/scaffold/service/web/app.tsx"), join(docs, "init/app.tsx"));
cpSync(join(web, "../internal/scaffold/service/web/gen"), join(docs, "init/gen"), { recursive: true });

// And the page of examples/tasks.
cpSync(join(web, "../examples/tasks/web"), join(docs, "tasks"), { recursive: true });

write("tsconfig.json", JSON.stringify({ extends: "../tsconfig.base.json", include: ["web", "adopt", "init", "tasks"] }));
