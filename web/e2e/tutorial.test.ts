// docs/start.md, block by block, from an empty folder to a browser. What a reader does
// is done here: files are written, diffs are patched, commands run in one shell. Two
// things differ: the clone is this one, and the address a free one.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { chromium, type Browser, type Page } from "playwright-core";
import { afterAll, expect, test } from "vitest";
import { freePort } from "./program.js";

const root = resolve(import.meta.dirname, "../..");
// Not below a folder that others can't enter: Postgres runs as another user there.
const folder = mkdtempSync(join(tmpdir(), "tutorial-"));
const patience = 600_000;
let service: ChildProcess | undefined;
let browser: Browser | undefined;

afterAll(async () => {
  await browser?.close();
  await stop();
  rmSync(folder, { recursive: true, force: true });
}, patience);

interface Block {
  readonly language: string;
  readonly info: string;
  readonly text: string;
}

/** The blocks of the sections that are given by their headings. */
function blocksOf(heading: string): Block[] {
  const section = readFileSync(join(root, "docs/start.md"), "utf8").split(/^## /m).find((text) => text.startsWith(heading));
  if (section === undefined) throw new Error(`there is no section ${heading}`);
  return [...section.matchAll(/^```([a-z]+) ?(\S*)\n(.*?)^```$/gms)].map(([, language, info, text]) => ({
    language: language!,
    info: info!,
    text: text!,
  }));
}

test("from an empty folder to a new table, two methods and a live list", { timeout: patience }, async () => {
  const began = Date.now();
  const address = `127.0.0.1:${await freePort()}`;
  browser = await chromium.launch({ executablePath: process.env["FRESHET_CHROMIUM"]!, args: ["--no-sandbox"] });
  let here = folder;

  const follow = async (heading: string, pages: () => Promise<void>) => {
    for (const { language, info, text } of blocksOf(heading)) {
      const script = text.replaceAll("127.0.0.1:8080", address).replaceAll("make run", `make run ARGS='--addr ${address}'`);
      if (info === "clone") symlinkSync(root, join(here, "freshet"));
      else if (info === "run") await start(script, here, address);
      else if (info.startsWith("file=")) write(join(here, info.slice(5)), text);
      else if (language === "diff") await shell("patch -p0", here, text);
      else if (/^cd (\S+)\n$/.test(text)) here = join(here, text.slice(3, -1));
      else await shell(script, here);
    }
    await pages();
    await stop();
  };

  await follow("A service that is live", async () => {
    const [one, two] = [await open(address), await open(address)];
    await expectText(one, "by curl");
    await one.getByLabel("New task").fill("by hand");
    await one.getByRole("button", { name: "Add" }).click();
    await expectText(two, "by hand");
  });
  await follow("A table of your own", async () => {
    const [one, two] = [await open(address), await open(address)];
    await expectText(one, "by SQL");
    await one.getByLabel("New comment").first().fill("a comment");
    await one.getByLabel("New comment").first().press("Enter");
    await expectText(two, "a comment");
  });
  console.log(`the tutorial took ${Math.round((Date.now() - began) / 1000)} s`);
});

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text, { flag: "wx" });
}

/** Runs a block to its end, in bash, which stops at the first command that fails. */
function shell(script: string, cwd: string, input?: string): Promise<void> {
  return new Promise((done, fail) => {
    const child = spawn("bash", ["-euo", "pipefail", "-c", script], { cwd, stdio: ["pipe", "pipe", "pipe"] });
    let said = "";
    const read = (chunk: Buffer) => (said += chunk.toString());
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("error", fail);
    child.on("close", (code) => (code === 0 ? done() : fail(new Error(`${script}\n${said}`))));
    child.stdin.on("error", fail); // it has ended without reading what it was given
    child.stdin.end(input);
  });
}

/** Runs the service, in a group of its own, until it answers. */
async function start(script: string, cwd: string, address: string): Promise<void> {
  const child = spawn("bash", ["-euo", "pipefail", "-c", script], { cwd, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  service = child;
  let said = "";
  await new Promise<void>((done, fail) => {
    const deadline = setTimeout(() => fail(new Error(`it does not run:\n${said}`)), 300_000);
    const read = (chunk: Buffer) => {
      said += chunk.toString();
      if (!said.includes(`http://${address}\n`)) return;
      clearTimeout(deadline);
      done();
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.once("close", () => fail(new Error(`it ended:\n${said}`)));
  });
  for (;;) {
    // Until the contract is ready; the test's own deadline bounds it.
    const response = await fetch(`http://${address}/readyz`, { signal: AbortSignal.timeout(30_000) });
    if (response.ok) return;
    if (child.exitCode !== null) throw new Error(`it ended:\n${said}`);
    await new Promise((again) => setTimeout(again, 100));
  }
}

/** Ctrl-C, as in a terminal: to make and to the service. */
async function stop(): Promise<void> {
  const child = service;
  service = undefined;
  if (child?.pid === undefined || child.exitCode !== null) return;
  const ended = new Promise((done) => child.once("close", done));
  process.kill(-child.pid, "SIGINT");
  await ended;
}

async function open(address: string): Promise<Page> {
  const page = await (await browser!.newContext()).newPage();
  await page.goto(`http://${address}`);
  return page;
}

async function expectText(page: Page, text: string): Promise<void> {
  await page.getByText(text).first().waitFor({ timeout: 30_000 });
  expect(await page.getByRole("alert").count()).toBe(0);
}
