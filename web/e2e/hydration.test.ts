// A page that is rendered on a server: what it shows carries the stamp of its data, so
// that the browser reads again what changed since, and nothing else.
import { join } from "node:path";
import type { DehydratedState } from "@tanstack/react-query";
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { Pages } from "./pages.js";
import { render } from "./rendered/server.js";
import { Site } from "./site.js";

const pages = Pages.forFile();
let site: Site;
/** What is done to the state before it is written into the page. */
let change: (state: DehydratedState) => void = () => {};
let number = 0;

beforeAll(async () => {
  const api = pages.program.url;
  site = await Site.start(api, join(import.meta.dirname, "rendered/client.tsx"), (response) => render(api, response, change));
});
afterAll(() => site?.close());
beforeEach(async () => {
  site.reads = 0;
  await pages.insert("hydrated", `before ${++number}`);
});
afterEach(() => {
  change = () => {};
});

/** Opens the page; `between` happens when it is there as text, before its script runs. */
async function open(between: () => Promise<void> = async () => {}): Promise<Page> {
  const page = await pages.blank(await pages.browser.newContext());
  await page.route("**/client.js", async (route) => {
    await between();
    await route.continue();
  });
  const rendered = await page.goto(site.url);
  expect(await rendered!.text()).toContain(`before ${number}`);
  return page;
}

const shows = (page: Page, body: string) => page.getByRole("listitem").filter({ hasText: body }).waitFor();
const live = (page: Page) => page.getByRole("status").filter({ hasText: /^live$/ }).waitFor();

/** The page is live, so whatever was owed has been read, and what is written now is read once. */
async function readsOnce(page: Page): Promise<void> {
  await live(page);
  const before = site.reads;
  await pages.insert("hydrated", `after ${number}`);
  await shows(page, `after ${number}`);
  await live(page);
  expect(site.reads).toBe(before + 1);
}

test("nothing changed since it was rendered: nothing is read", async () => {
  const page = await open();
  await live(page);
  expect(site.reads).toBe(0);
  await readsOnce(page);
});

test("changed between its rendering and its script: read once, and shown", async () => {
  const page = await open(() => pages.insert("hydrated", `between ${number}`));
  await shows(page, `between ${number}`);
  await live(page);
  expect(site.reads).toBe(1);
  await readsOnce(page);
});

test("what changed elsewhere meanwhile costs nothing", async () => {
  const page = await open(() => pages.insert("another", "between"));
  await live(page);
  expect(site.reads).toBe(0);
  await readsOnce(page);
});

test("a state without its stamp is of unknown age: read once", async () => {
  change = ({ queries }) => {
    for (const { state } of queries) delete (state as { freshet?: unknown }).freshet;
  };
  const page = await open();
  await vi.waitFor(() => expect(site.reads).toBe(1));
  await readsOnce(page);
});
