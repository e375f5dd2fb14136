// A page of Next.js: what its server has rendered carries the stamp of its data, so that
// the browser reads again what has changed since, and nothing else. As in
// ../hydration.test.ts, with an App Router in between.
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { Pages } from "../pages.js";
import { freePort } from "../program.js";
import { Site } from "../site.js";

const pages = Pages.forFile();
let next: ChildProcess;
let site: Site;
let number = 0;

beforeAll(async () => {
  const folder = process.env["FRESHET_NEXT"]!;
  const port = await freePort();
  next = spawn(process.execPath, [join(folder, "node_modules/next/dist/bin/next"), "start", "-H", "127.0.0.1", "-p", String(port)], {
    cwd: folder,
    env: { ...process.env, NODE_ENV: "production", FRESHET_API: pages.program.url },
    stdio: ["ignore", "pipe", "inherit"],
  });
  await new Promise<void>((ready, failed) => {
    next.once("exit", (code) => failed(new Error(`next start has ended: ${code}`)));
    next.stdout!.on("data", (said: Buffer) => String(said).includes("Ready") && ready());
  });
  site = await Site.before(pages.program.url, `http://127.0.0.1:${port}`, "/_next/");
});
afterAll(async () => {
  await site?.close();
  if (next?.exitCode === null) {
    next.kill();
    await once(next, "exit");
  }
});
beforeEach(async () => {
  site.reads = 0;
  await pages.insert("hydrated", `before ${++number}`);
});

/** Opens the page; `between` happens when it is there as text, before its scripts run. */
async function open(between: () => Promise<void> = async () => {}): Promise<Page> {
  const page = await pages.blank(await pages.browser.newContext());
  let happened: Promise<void> | undefined;
  await page.route("**/_next/static/**/*.js", async (route) => {
    await (happened ??= between());
    await route.continue();
  });
  const rendered = await page.goto(site.url);
  expect(await rendered!.text()).toContain(`before ${number}`);
  return page;
}

const shows = (page: Page, body: string) => page.getByRole("listitem").filter({ hasText: body }).waitFor();
const live = (page: Page) => page.getByRole("status").filter({ hasText: /^live$/ }).waitFor();

test("nothing has changed since it was rendered: nothing is read, and what changes now is read once", async () => {
  const page = await open();
  await live(page);
  expect(site.reads).toBe(0);
  await pages.insert("hydrated", `after ${number}`);
  await shows(page, `after ${number}`);
  await live(page);
  expect(site.reads).toBe(1);
});

test("something has changed between rendering and hydration: it is read once", async () => {
  const page = await open(() => pages.insert("hydrated", `between ${number}`));
  await shows(page, `between ${number}`);
  await live(page);
  expect(site.reads).toBe(1);
});

test("something else has changed: nothing is read", async () => {
  const page = await open(() => pages.insert("elsewhere", `between ${number}`));
  await live(page);
  expect(site.reads).toBe(0);
});
