// Runs the browser tests if there is a browser. Without one they are not run:
// that is said loudly, and is a failure with CI=true.
import { spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join, resolve } from "node:path";

const here = import.meta.dirname;

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function inPath(name) {
  const folders = (process.env.PATH ?? "").split(delimiter);
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

const wanted = process.env.FRESHET_CHROMIUM || process.env.CHROMIUM;
const browser = wanted
  ? (isExecutable(wanted) ? wanted : inPath(wanted))
  : ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
      .map(inPath)
      .find(Boolean);
if (!browser) {
  const which = wanted ? `${wanted} was not found` : "no Chromium or Chrome was found";
  console.error(`*** NOT RUN: the browser tests: ${which}.`);
  console.error("*** Run `make deps`, or name one with FRESHET_CHROMIUM.");
  process.exit(process.env.CI ? 1 : 0);
}

const program = resolve(process.env.FRESHET_BIN ?? join(here, "../../bin/freshet"));
if (!isExecutable(program)) {
  console.error(`*** ${program} was not found: run \`make build\`, or name the program with FRESHET_BIN.`);
  process.exit(1);
}

const { status } = spawnSync(
  process.execPath,
  [join(here, "../node_modules/vitest/vitest.mjs"), "run", "--config", join(here, "vitest.config.ts"), ...process.argv.slice(2)],
  {
    cwd: here,
    stdio: "inherit",
    env: { ...process.env, FRESHET_CHROMIUM: browser, FRESHET_BIN: program },
  },
);
process.exit(status ?? 1);
