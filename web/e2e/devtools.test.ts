// @freshet/devtools: the panel by itself, and in TanStack Devtools.
import { join } from "node:path";
import type { BrowserContextOptions, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { desktop, Pages, phone, violations } from "./pages.js";
import { Site } from "./site.js";

const pages = Pages.forFile(["--explain"]);
let site: Site;

beforeAll(async () => {
  const html = '<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>Devtools</title><link rel="icon" href="data:,"><main id="root"></main><script type="module" src="/client.js"></script></html>';
  site = await Site.start(pages.program.url, join(import.meta.dirname, "devtools/client.tsx"), async (response, url) => {
    // As strict as a page's policy may be: no style and no script but files. (TanStack's shell wants more.)
    const strict = url.searchParams.has("strict") && { "content-security-policy": "default-src 'self'; img-src data:; style-src 'self'" };
    response.writeHead(200, { "content-type": "text/html", ...strict }).end(html);
  });
});
afterAll(() => site?.close());

async function open(how: string, policy: "?strict" | "", options: BrowserContextOptions = desktop): Promise<Page> {
  const page = await pages.blank(await pages.browser.newContext({ ...options, reducedMotion: "reduce" }));
  await page.goto(`${site.url}${policy}#${how}`);
  return page;
}

/** A row that is written shows in each part of the panel. */
async function follows(page: Page): Promise<void> {
  const row = page.getByRole("row", { name: /ListMessages live · parent: conversations\/devtools/ });
  await row.waitFor();
  await pages.insert("devtools", "a row");
  await page.getByRole("list", { name: "Notices, newest first" }).getByText(/read/).first().waitFor();
  await page.getByRole("list", { name: "Events, newest first" }).getByText("conversations/devtools/messages").first().waitFor();
  await row.getByText("last change: insert of public.messages").waitFor();
  await page.getByRole("list", { name: "Notices, newest first" }).getByText("insert of public.messages").first().waitFor();
  expect(await row.locator("td").nth(2).textContent()).toMatch(/^[0-9a-f]+$/);
}

test.each([
  ["390-light", { ...phone, colorScheme: "light" as const }],
  ["390-dark", { ...phone, colorScheme: "dark" as const }],
  ["1280-light", { ...desktop, colorScheme: "light" as const }],
  ["1280-dark", { ...desktop, colorScheme: "dark" as const }],
])("by itself, for everybody: %s", async (name, options) => {
  const page = await open("alone", "?strict", options);
  await follows(page);
  const [width, inner] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  expect(width).toBeLessThanOrEqual(inner!);
  expect((await violations(page)).filter((text) => !/^(page-has-heading-one|heading-order)/.test(text))).toEqual([]);
  await page.screenshot({ path: join(import.meta.dirname, `shots/devtools-${name}.png`) });
  await page.evaluate(() => (window as unknown as { unmount(): void }).unmount());
  expect(await page.locator("main *").count()).toBe(0);
});

test("as a component, under strict mode: one panel", async () => {
  const page = await open("component", "?strict");
  await follows(page);
  expect(await page.getByRole("heading", { name: "The stream" }).count()).toBe(1);
});

test.each(["react", "core"])("a plugin of TanStack Devtools: %s", async (how) => {
  const page = await open(how, "");
  await page.getByText("Freshet", { exact: true }).first().click();
  await follows(page);
  await page.screenshot({ path: join(import.meta.dirname, `shots/devtools-${how}.png`) });
});
