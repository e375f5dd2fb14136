// F32 in a real browser: its locks, its channels, its six connections per origin.
import { readFileSync } from "node:fs";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { Program } from "./program.js";

const library = new URL("../packages/query/dist/", import.meta.url);
const parser = new URL("../node_modules/eventsource-parser/dist/index.js", import.meta.url);
const patience = { timeout: 20_000, interval: 20 };

/** The least of an app: a list that is read again, at least what was told. */
const page = `<!doctype html><title>tab</title>
<script type="importmap">{"imports": {"eventsource-parser": "/lib/eventsource-parser.js"}}</script>
<script type="module">
  import { Freshet } from "/lib/index.js";
  const freshet = new Freshet({ url: "/events", resetSpreadMs: 0 });
  const tab = (window.tab = { freshet, rows: [], have: "", need: "", at: 0 });
  let reading = false;
  async function read() {
    if (reading) return;
    reading = true;
    while (tab.have < tab.need) {
      const asked = tab.need;
      const answer = await fetch("/messages.v1.MessageService/ListMessages", {
        method: "POST",
        headers: { "content-type": "application/json", "freshet-at-least": asked },
        body: JSON.stringify({ parent: "conversations/room", pageSize: 1000 }),
      });
      if (!answer.ok) continue; // the next attempt waits at the server
      tab.rows = ((await answer.json()).messages ?? []).map((message) => message.body).reverse();
      tab.have = answer.headers.get("freshet-revision");
      tab.at = Date.now();
    }
    reading = false;
  }
  freshet.subscribe({
    topics: ["conversations/room/messages", "conversations/" + location.hash.slice(1) + "/messages"],
    onInvalidate: ({ revision }) => {
      if (revision > tab.need) tab.need = revision;
      void read();
    },
  });
</script>`;

let program: Program;
let browser: Browser;
let context: BrowserContext;
let tabs: Page[] = [];
let opened = 0;
let written: string[] = [];

beforeAll(async () => {
  program = await Program.start();
  browser = await chromium.launch({
    executablePath: process.env["FRESHET_CHROMIUM"],
    args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
  });
});
afterAll(async () => {
  await browser?.close();
  await program?.close();
});
beforeEach(async () => {
  await program.sql("delete from messages");
  written = [];
  context = await browser.newContext();
  await context.route("**/tab.html", (route) => route.fulfill({ contentType: "text/html", body: page }));
  await context.route("**/lib/*.js", (route) => {
    const name = new URL(route.request().url()).pathname.slice("/lib/".length);
    const file = name === "eventsource-parser.js" ? parser : new URL(name, library);
    return route.fulfill({ contentType: "text/javascript", body: readFileSync(file, "utf8") });
  });
});
afterEach(async () => {
  tabs = [];
  await context.close();
  await vi.waitFor(async () => expect(await streams()).toBe(0), patience);
});

async function open(): Promise<Page> {
  const tab = await context.newPage();
  await tab.goto(`${program.url}/tab.html#own-${++opened}`);
  await tab.waitForFunction(() => window.tab?.freshet.status.state === "live");
  tabs.push(tab);
  return tab;
}

async function write(): Promise<string> {
  const body = `row ${written.length}`;
  await program.sql("insert into messages (conversation, author, body) values ('room', 'psql', $1)", body);
  written.push(body);
  return body;
}

/** Open streams, counted at the server. */
async function streams(): Promise<number> {
  const text = await (await fetch(`${program.adminUrl}/metrics`)).text();
  return Number(/^freshet_stream_connections (\d+)$/m.exec(text)![1]);
}

async function leader(): Promise<Page> {
  return vi.waitFor(async () => {
    const leads = await Promise.all(tabs.map((tab) => tab.evaluate(() => window.tab.freshet.leads)));
    expect(leads.filter(Boolean)).toHaveLength(1);
    return tabs[leads.indexOf(true)]!;
  }, patience);
}

/** Until each tab shows what is in the database: all of it, in order. */
async function exact(): Promise<void> {
  await vi.waitFor(async () => {
    for (const tab of tabs) expect(await tab.evaluate(() => window.tab.rows)).toEqual(written);
  }, patience);
  await vi.waitFor(async () => expect(await streams()).toBe(1), patience);
}

test("eight tabs hold one stream, and their calls go through", async () => {
  for (let i = 0; i < 8; i++) await open();
  await leader();
  await exact(); // the one before the last topics may just be closing
  for (let i = 0; i < 20; i++) {
    await write();
    expect(await streams()).toBe(1);
  }
  await exact();
});

test("the leader is closed 20 times under continuous writes: every tab ends exact", async () => {
  for (let i = 0; i < 8; i++) await open();
  let writing = true;
  const writer = (async () => {
    while (writing) await write();
  })();
  const times: number[] = [];
  try {
    for (let round = 0; round < 20; round++) {
      const old = await leader();
      tabs.splice(tabs.indexOf(old), 1);
      await old.close();
      const closed = Date.now();
      await leader();
      times.push(Date.now() - closed);
      await open();
    }
  } finally {
    writing = false;
    await writer;
  }
  times.sort((a, b) => a - b);
  console.log(`leader closed → next one: p50 ${times[10]} ms, max ${times[19]} ms; ${written.length} rows`);
  await exact();
});

test("a crashed leader is replaced, and a write in between is not lost", async () => {
  for (let i = 0; i < 4; i++) await open();
  for (let round = 0; round < 3; round++) {
    const old = await leader();
    tabs.splice(tabs.indexOf(old), 1);
    const crashed = new Promise((resolve) => old.once("crash", resolve));
    old.goto("chrome://crash").catch(() => {}); // it has no end
    await write();
    await crashed;
    await write();
    await exact();
    await old.close();
    await open();
  }
  await exact();
});

test("a hung leader is replaced, and comes back as one of the others", async () => {
  for (let i = 0; i < 4; i++) await open();
  const hung = await leader();
  const busy = hung.evaluate(() => {
    const end = Date.now() + 9000;
    while (Date.now() < end);
  });
  const others = tabs.filter((tab) => tab !== hung);
  const began = Date.now();
  await write();
  await vi.waitFor(async () => {
    for (const tab of others) expect(await tab.evaluate(() => window.tab.rows)).toEqual(written);
  }, patience);
  const took = Date.now() - began;
  console.log(`leader hung → the others show a write after ${took} ms`);
  expect(took).toBeLessThan(8500); // before it came back
  await write();
  await busy;
  await exact();
  expect(await hung.evaluate(() => window.tab.freshet.leads)).toBe(false);
  await write();
  await exact();
});

// Whether the freeze stops it from telling is the browser's affair; it may well
// not. Then it goes on leading.
test("a leader that is frozen and thaws costs nobody a notice", async () => {
  for (let i = 0; i < 3; i++) await open();
  const frozen = await leader();
  const session = await context.newCDPSession(frozen);
  await session.send("Page.setWebLifecycleState", { state: "frozen" });
  const all = tabs;
  tabs = tabs.filter((tab) => tab !== frozen);
  await write();
  await vi.waitFor(async () => {
    for (const tab of tabs) expect(await tab.evaluate(() => window.tab.rows)).toEqual(written);
  }, patience);
  await session.send("Page.setWebLifecycleState", { state: "active" });
  tabs = all;
  await exact();
  await leader();
  await write();
  await exact();
});

declare global {
  interface Window {
    tab: { freshet: { leads: boolean; status: { state: string } }; rows: string[] };
  }
}
