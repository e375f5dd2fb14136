import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { BrowserContext, BrowserContextOptions, Page } from "playwright-core";
import { beforeAll, expect, test, vi } from "vitest";
import { bodies, desktop, live, message, Pages, phone, say, violations } from "./pages.js";

// Tokens that live so short that renewal is seen. The browser tells of each refusal.
const pages = Pages.forFile(["--demo-auth", "--demo-token-life=9s"], /net::ERR_|status of (40[13])/);

const rooms = ["general", "7", "8", "announcements"];
beforeAll(async () => {
  for (const room of rooms) await pages.insert(room, `first in ${room}`);
});

const inspected = { viewport: { width: 1360, height: 850 } };

/** A browser of its own with somebody signed in, in a conversation. */
async function as(name: string, room: string, options: BrowserContextOptions = {}): Promise<Page> {
  const page = await pages.blank(await pages.browser.newContext({ ...desktop, ...options }));
  await page.goto(`${pages.program.url}/#/${room}`);
  await signIn(page, name);
  return page;
}

async function signIn(page: Page, name: string): Promise<void> {
  await page.getByRole("button", { name: `Sign in as ${name}` }).click();
  await page.getByText(`Signed in as ${name}.`).waitFor();
}

async function visit(page: Page, room: string): Promise<void> {
  await page.goto(`${pages.program.url}/#/${room}`);
  await page.getByRole("heading", { name: room }).waitFor();
}

const denied = (page: Page, room: string) => page.getByText(`#${room} isn’t yours to see.`);

test.each([
  { name: "Ada", sees: rooms, no: [], writes: rooms },
  { name: "Bob", sees: ["general", "7", "announcements"], no: ["8"], writes: ["general", "7"] },
  { name: "Guest", sees: ["general", "announcements"], no: ["7", "8"], writes: [] },
])("$name sees what the account may, and no more", async ({ name, sees, no, writes }) => {
  const page = await as(name, "general");
  for (const room of sees) {
    await page.getByRole("navigation").getByRole("link", { name: room }).click();
    await message(page, `first in ${room}`).waitFor();
    await say(page, `by ${name} in ${room}`);
    if (writes.includes(room)) await message(page, `by ${name} in ${room}`).waitFor();
    else {
      await page.getByRole("alert").filter({ hasText: "Your account may not do this here." }).waitFor();
      expect(await page.getByLabel("Message", { exact: true }).inputValue()).toBe(`by ${name} in ${room}`);
      await page.getByLabel("Message", { exact: true }).fill("");
    }
  }
  for (const room of no) {
    await visit(page, room);
    await denied(page, room).waitFor();
    expect(await bodies(page)).toEqual([]);
    expect(await page.content()).not.toContain(`first in ${room}`);
    expect(await page.getByLabel("Message", { exact: true }).count()).toBe(0);
    await live(page); // what is denied leaves the stream of all else as it is
  }
  // The rest is live still.
  await visit(page, "general");
  await pages.insert("general", `for ${name}`);
  await message(page, `for ${name}`).waitFor();
});

test("what ada writes is live at bob where it is granted, and nowhere else", async () => {
  const [ada, bob, outside] = [await as("Ada", "7"), await as("Bob", "7", inspected), await as("Bob", "8")];
  await denied(outside, "8").waitFor();
  await message(bob, "first in 7").waitFor();
  await visit(ada, "8");
  await message(ada, "first in 8").waitFor();
  await say(ada, "a secret of ada");
  await message(ada, "a secret of ada").waitFor();
  await visit(ada, "7");
  await message(ada, "first in 7").waitFor();
  await say(ada, "from ada to bob");
  await message(bob, "from ada to bob").waitFor(); // after the secret
  for (const page of [bob, outside]) {
    const text = await page.content();
    expect(text).not.toContain("a secret of ada");
    expect(text).not.toContain("conversations/8");
  }
  await denied(outside, "8").waitFor();
});

test("the token is renewed under an open stream, which goes on without a refetch", async () => {
  const page = await as("Bob", "7", inspected);
  await message(page, "first in 7").waitFor();
  await live(page);
  await page.evaluate(() => {
    const pill = document.querySelector(".pill")!;
    window.states = [];
    new MutationObserver(() => window.states.push(pill.textContent)).observe(pill, { subtree: true, characterData: true, childList: true });
  });
  const renewals = () => page.locator("[data-renewals]").getAttribute("data-renewals").then(Number);
  const before = await renewals();
  const token = () => tokenOf(page.context());
  const streams: number[] = [];
  page.on("request", (request) => request.url().includes("/events") && streams.push(1));
  const first = await token();
  await vi.waitFor(async () => expect(await renewals()).toBeGreaterThan(before), { timeout: 30_000, interval: 100 }); // by itself
  const itself = await renewals();
  await page.getByRole("button", { name: "Renew now" }).click();
  await vi.waitFor(async () => expect(await renewals()).toBeGreaterThan(itself), { timeout: 30_000, interval: 100 });
  expect(await token()).not.toBe(first);
  const refetches = await page.locator(".counts div", { hasText: "refetches" }).locator("dd").textContent();
  expect(refetches).toBe("0");
  await pages.insert("7", "after the renewal");
  await message(page, "after the renewal").waitFor();
  await vi.waitFor(() => expect(streams.length).toBeGreaterThanOrEqual(2)); // each with the token that is new
  expect(await page.evaluate(() => window.states)).toEqual([]); // it was Live all along
});

test("whoever signs out is nobody, in each tab, and leaves nothing to the next", async () => {
  const [page, elsewhere] = [await as("Bob", "7"), await as("Bob", "7")];
  await live(elsewhere);
  await message(page, "first in 7").waitFor();
  await page.getByLabel("Message", { exact: true }).fill("half a sentence of Bob");
  const other = await pages.blank(page.context());
  await other.goto(`${pages.program.url}/#/general`);
  await other.getByText("Signed in as Bob.").waitFor();
  const headers = { authorization: `Bearer ${await tokenOf(page.context())}` }; // copied
  const copied = () => fetch(`${pages.program.url}/events?topic=conversations/7/messages`, { headers });
  const stream = await copied();
  expect(stream.status).toBe(200);

  await page.getByRole("button", { name: "Sign out" }).click();
  for (const tab of [page, other]) await tab.getByRole("heading", { name: "Sign in" }).waitFor();
  expect(await stream.text()).toMatch(/event: end\ndata: {"reason":"denied"}\n\n$/);
  expect((await copied()).status).toBe(403);
  await pages.insert("7", "bob is elsewhere still");
  await message(elsewhere, "bob is elsewhere still").waitFor();
  const refused = await page.evaluate(async () => {
    const body = JSON.stringify({ parent: "conversations/7" });
    const headers = { "content-type": "application/json" };
    const list = await fetch("/messages.v1.MessageService/ListMessages", { method: "POST", headers, body });
    const events = await fetch("/events?topic=conversations/7/messages");
    return [list.status, events.status, list.headers.get("www-authenticate")];
  });
  expect(refused).toEqual([401, 401, 'Bearer realm="freshet"']);

  await signIn(page, "Guest");
  await denied(page, "7").waitFor(); // the address is Bob's still
  await other.getByText("Signed in as Guest.").waitFor();
  for (const tab of [page, other]) {
    const text = (await tab.content()) + (await tab.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage })));
    for (const bobs of ["first in 7", "half a sentence", "Signed in as <b>Bob"]) expect(text).not.toContain(bobs);
  }
});

test("a session that ended is told, not shown as an error", async () => {
  const page = await as("Bob", "7", inspected);
  await message(page, "first in 7").waitFor();
  await page.context().clearCookies();
  // The page asks now. It may have asked by itself in between, and the button is gone: no click waits for it then.
  await page.evaluate(() => [...document.querySelectorAll("button")].find((button) => button.textContent === "Renew now")?.click());
  await page.getByText("Your session has ended.").waitFor({ timeout: 30_000 });
  expect(await page.content()).not.toContain("first in 7");
  await signIn(page, "Bob");
  await message(page, "first in 7").waitFor();
});

test("a grant that is withdrawn takes away what it showed, and nothing else", async () => {
  const file = join(pages.program.data, "demo-grants.yaml");
  const grants = readFileSync(file, "utf8");
  const [bob, ada] = [await as("Bob", "7"), await as("Ada", "7")];
  await Promise.all([message(bob, "first in 7").waitFor(), message(ada, "first in 7").waitFor()]);
  try {
    writeFileSync(file, grants.replaceAll('"conversations/{conversations}/messages/**"', '"conversations/general/messages/**"'));
    await denied(bob, "7").waitFor();
    expect(await bob.content()).not.toContain("first in 7");
    await visit(bob, "general");
    await message(bob, "first in general").waitFor();
    await live(bob);
    await live(ada);
  } finally {
    writeFileSync(file, grants);
  }
  await visit(bob, "7");
  await vi.waitFor(async () => {
    await bob.getByRole("button", { name: "look again" }).click({ timeout: 500 });
    await message(bob, "first in 7").waitFor({ timeout: 500 });
  });
  await pages.insert("7", "granted again");
  await message(bob, "granted again").waitFor(); // followed again, too
});

test("no token is in an address, the console, a store or the page", async () => {
  const page = await pages.blank(await pages.browser.newContext({ ...inspected }));
  const seen: string[] = [];
  page.on("request", (request) => seen.push(request.url(), request.postData() ?? "", request.headers()["referer"] ?? ""));
  page.on("console", (entry) => seen.push(entry.text()));
  await page.goto(`${pages.program.url}/#/8`);
  await signIn(page, "Bob");
  await denied(page, "8").waitFor();
  await visit(page, "7");
  await message(page, "first in 7").waitFor();
  const tokens = [await tokenOf(page.context())];
  await page.getByRole("button", { name: "Renew now" }).click();
  await vi.waitFor(async () => {
    tokens.push(await tokenOf(page.context()));
    expect(new Set(tokens).size).toBeGreaterThan(1);
  });
  seen.push(await page.content(), page.url());
  seen.push(await page.evaluate(() => document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage })));
  seen.push(JSON.stringify(await page.evaluate(async () => (await indexedDB.databases()).map(({ name }) => name))));
  expect(seen.join("\n")).toContain("/demo/sign-in");
  for (const token of tokens) for (const part of token.split(".")) expect(seen.join("\n")).not.toContain(part);
});

async function tokenOf(context: BrowserContext): Promise<string> {
  const cookie = (await context.cookies()).find(({ name }) => name === "freshet_demo");
  expect(cookie).toMatchObject({ httpOnly: true, sameSite: "Strict", path: "/" });
  return cookie!.value;
}

// Looked at by people, and by axe: in each size and colour, asking, allowed and denied.
test.each([
  ["1280-light", { ...desktop, colorScheme: "light" }],
  ["1280-dark", { ...desktop, colorScheme: "dark" }],
  ["390-light", { ...phone, colorScheme: "light" }],
  ["390-dark", { ...phone, colorScheme: "dark" }],
] as [string, BrowserContextOptions][])("can be used by everybody: %s", async (name, options) => {
  const page = await pages.blank(await pages.browser.newContext({ ...options, reducedMotion: "reduce" }));
  const look = async (what: string) => {
    await page.screenshot({ path: new URL(`shots/account-${what}-${name}.jpg`, import.meta.url).pathname, type: "jpeg", quality: 82 });
    expect(await violations(page)).toEqual([]);
    expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
  };
  await page.goto(`${pages.program.url}/#/8`);
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await look("sign-in");
  // By keyboard: the second account.
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.getByText("Signed in as Bob.").waitFor();
  await denied(page, "8").waitFor();
  await page.getByRole("status").filter({ hasText: "Idle" }).waitFor(); // there is nothing that may be followed
  await look("denied");
  await visit(page, "announcements");
  await message(page, "first in announcements").waitFor();
  await say(page, "not here");
  await page.getByRole("alert").waitFor();
  await look("refused");
  const toggle = page.getByRole("button", { name: "Inspector" });
  if ((await toggle.getAttribute("aria-expanded")) !== "true") await toggle.click();
  await page.getByRole("button", { name: "Renew now" }).waitFor();
  await look("token");
});

declare global {
  interface Window {
    states: (string | null)[];
  }
}
