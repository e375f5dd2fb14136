import { chromium, type Browser, type BrowserContextOptions, type Locator, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Program } from "./program.js";

let program: Program;
let browser: Browser;
let pages: Page[] = [];
let complaints: string[] = [];

beforeAll(async () => {
  program = await Program.start();
  const page = await (await fetch(program.url)).text();
  if (!page.includes('id="root"')) {
    throw new Error("the program was built without its page: run `make build`");
  }
  browser = await chromium.launch({
    executablePath: process.env["FRESHET_CHROMIUM"],
    // Chromium's sandbox refuses root.
    args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
  });
});
afterAll(async () => {
  await browser?.close();
  await program?.close();
});
afterEach(async () => {
  for (const page of pages) await page.context().close();
  pages = [];
  const said = complaints;
  complaints = [];
  // No error, and nothing that the page's policy refused.
  expect(said).toEqual([]);
});

async function open(conversation: string, options: BrowserContextOptions = {}): Promise<Page> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    // The browser says so of every request that fails: while the server is away,
    // and on a conflict.
    const expected = /net::ERR_|status of (409|50[234])/.test(message.text());
    if (message.type() === "error" && !expected) complaints.push(message.text());
  });
  pages.push(page);
  await page.goto(`${program.url}/#${conversation}`);
  await live(page);
  return page;
}

function live(page: Page): Promise<void> {
  return page.getByRole("status").filter({ hasText: "Live" }).waitFor({ timeout: 40_000 });
}

function message(page: Page, body: string): Locator {
  return page.locator("li.message").filter({ has: page.getByText(body, { exact: true }) });
}

async function say(page: Page, body: string): Promise<void> {
  await page.bringToFront(); // a hidden page is throttled
  await page.getByLabel("Message", { exact: true }).fill(body);
  await page.keyboard.press("Enter");
}

function insert(conversation: string, body: string): Promise<void> {
  return program.sql(
    "insert into messages (conversation, author, body) values ($1, 'psql', $2)",
    conversation,
    body,
  );
}

test("what one page writes, the other shows: create, edit, delete", async () => {
  const [ada, grace] = [await open("pair"), await open("pair")];
  await say(ada, "hello from Ada");
  await message(ada, "hello from Ada").waitFor();
  await message(grace, "hello from Ada").waitFor();
  await grace.getByRole("link", { name: /pair/ }).getByLabel("1 messages").waitFor();

  await grace.bringToFront();
  await message(grace, "hello from Ada").hover();
  await message(grace, "hello from Ada").getByRole("button", { name: /^Edit/ }).click();
  await grace.getByLabel("Message text").fill("hello from both");
  await grace.keyboard.press("Enter");
  await message(ada, "hello from both").getByText("edited").waitFor();

  await ada.bringToFront();
  await message(ada, "hello from both").hover();
  await message(ada, "hello from both").getByRole("button", { name: /^Delete/ }).click();
  await message(grace, "hello from both").waitFor({ state: "detached" });
  await message(ada, "hello from both").waitFor({ state: "detached" });
});

test("what SQL writes behind the API's back, both pages show", async () => {
  const [left, right] = [await open("sql-left"), await open("sql-right")];
  await insert("sql-left", "a row");
  await message(left, "a row").waitFor();
  await right.getByRole("link", { name: /sql-left/ }).waitFor();

  // F4: the old and the new conversation are told of a move.
  await program.sql("update messages set conversation = 'sql-right' where body = 'a row'");
  await message(left, "a row").waitFor({ state: "detached" });
  await message(right, "a row").waitFor();

  await program.sql("delete from messages where body = 'a row'");
  await message(right, "a row").waitFor({ state: "detached" });
});

test("a change by someone else under an open editor is a conflict, not lost", async () => {
  const page = await open("conflict");
  await insert("conflict", "first");
  await message(page, "first").hover();
  await message(page, "first").getByRole("button", { name: /^Edit/ }).click();
  await program.sql("update messages set body = 'theirs' where conversation = 'conflict'");
  await page.getByLabel("Message text").fill("mine");
  await page.keyboard.press("Enter");
  await page.getByText("Someone else changed this message").waitFor();
  expect(await page.getByLabel("Message text").inputValue()).toBe("mine");
  await page.keyboard.press("Escape");
  await message(page, "theirs").waitFor();
});

test("all of it by keyboard", async () => {
  const page = await open("keys");
  await page.getByLabel("Message", { exact: true }).focus();
  await page.keyboard.type("typed");
  await page.keyboard.press("Enter");
  await message(page, "typed").waitFor();
  await page.keyboard.press("Shift+Tab"); // the name
  await page.keyboard.press("Shift+Tab"); // Delete
  await page.keyboard.press("Shift+Tab"); // Edit
  await page.keyboard.press("Enter");
  await page.keyboard.type(" again");
  await page.keyboard.press("Enter");
  await message(page, "typed again").waitFor();
  await page.locator(":focus[aria-label^=Edit]").waitFor(); // back where it came from
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await message(page, "typed again").waitFor({ state: "detached" });
});

test.each(["SIGTERM", "SIGKILL"] as const)("both pages converge after %s and a restart", async (signal) => {
  const room = `restart-${signal.toLowerCase()}`;
  const [left, right] = [await open(room), await open(room)];
  await insert(room, "before");
  await Promise.all([message(left, "before").waitFor(), message(right, "before").waitFor()]);
  await program.stop(signal);
  for (const page of [left, right]) {
    await page.getByRole("status").filter({ hasText: "Reconnecting" }).waitFor();
    await message(page, "before").waitFor(); // what was read stays on screen
  }
  await program.start();
  await insert(room, "while away"); // most likely before the pages are back
  await Promise.all([live(left), live(right)]);
  await Promise.all([message(left, "while away").waitFor(), message(right, "while away").waitFor()]);
  await say(left, "after");
  await message(right, "after").waitFor();
});

test("a page that was offline catches up", async () => {
  const page = await open("offline");
  await page.context().setOffline(true);
  await insert("offline", "missed");
  await page.context().setOffline(false);
  await message(page, "missed").waitFor({ timeout: 45_000 });
});

test("from a write in SQL to the screen in well under a second", async () => {
  const page = await open("speed");
  const times: number[] = [];
  for (let n = 0; n < 20; n++) {
    const body = `message ${n}`;
    const shown = page.evaluate(
      (text) =>
        new Promise<number>((resolve) => {
          const look = () => {
            if (!document.querySelector(".messages")?.textContent?.includes(text)) return;
            observer.disconnect();
            resolve(Date.now());
          };
          const observer = new MutationObserver(look);
          observer.observe(document.body, { subtree: true, childList: true, characterData: true });
          look();
        }),
      `${body}.`,
    );
    await insert("speed", `${body}.`);
    const written = Date.now(); // the same clock: one machine
    times.push((await shown) - written);
  }
  times.sort((a, b) => a - b);
  console.log(`SQL write returned → on screen: p50 ${times[10]} ms, max ${times[19]} ms (20 writes)`);
  expect(times[10]).toBeLessThan(500);
});

test("pictures for people to look at", async () => {
  const talk: [string, string][] = [
    ["Ada", "Good morning. The migration went through."],
    ["Grace", "Nice. Does the list refresh by itself now, also for rows of the batch job?"],
    ["psql", "nightly import: 1,204 rows"],
    ["Ada", "It does: whoever writes, the page reads again, at least up to that commit.\n\nTry it with two windows side by side."],
  ];
  for (const [author, body] of talk) {
    await program.sql(
      "insert into messages (conversation, author, body) values ('general', $1, $2)",
      author,
      body,
    );
  }
  const desktop = { viewport: { width: 1280, height: 800 } };
  const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
  const shots: [string, BrowserContextOptions][] = [
    ["light", { ...desktop, colorScheme: "light" }],
    ["dark", { ...desktop, colorScheme: "dark" }],
    ["phone", { ...phone, colorScheme: "light" }],
    ["phone-dark", { ...phone, colorScheme: "dark" }],
  ];
  for (const [name, options] of shots) {
    const page = await open("general", options);
    await message(page, "nightly import: 1,204 rows").waitFor();
    // Nothing sticks out: a phone would scroll sideways.
    const [width, inner] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
    expect(width).toBeLessThanOrEqual(inner!);
    await page.screenshot({ path: new URL(`shots/${name}.png`, import.meta.url).pathname });
  }
});
