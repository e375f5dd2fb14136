// The page with much on it: F73, as somebody found it who looked.
import type { Page } from "playwright-core";
import { beforeAll, expect, test, vi } from "vitest";
import { bodies, desktop, message, Pages, phone, say, violations } from "./pages.js";

const pages = Pages.forFile();
const patience = { timeout: 40_000, interval: 50 };

beforeAll(async () => {
  await pages.program.sql(
    `insert into messages (conversation, author, body) select 'room-' || n, 'psql', 'hello' from generate_series(1, 50) n`,
  );
  await fill("room-40");
});

/** 500 messages, a second apart. */
function fill(conversation: string): Promise<void> {
  return pages.program.sql(
    `insert into messages (conversation, author, body, create_time)
     select $1, 'psql', 'row ' || n, now() - interval '1 day' + n * interval '1 second' from generate_series(1, 500) n`,
    conversation,
  );
}

/** What is wrong with how the page lies on the screen. */
function misplaced(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const faults: string[] = [];
    const { scrollWidth, scrollHeight } = document.documentElement;
    if (scrollWidth > screen.width || scrollWidth > window.innerWidth) faults.push(`the page is ${scrollWidth} wide`);
    if (scrollHeight > window.innerHeight) faults.push(`the page is ${scrollHeight} high`);
    for (const element of document.querySelectorAll("body *")) {
      const { overflowX, overflowY, position } = getComputedStyle(element);
      const scrolls = [overflowX, overflowY].some((value) => value === "auto" || value === "scroll");
      if (scrolls && position === "static" && element.querySelector("*"))
        faults.push(`${element.className} scrolls and isn't positioned`);
    }
    const seen = (selector: string) => {
      const { left, right, top, bottom } = document.querySelector(selector)!.getBoundingClientRect();
      if (left < 0 || top < 0 || right > window.innerWidth + 1 || bottom > window.innerHeight + 1) faults.push(`${selector} is out of sight`);
      const [x, y] = [(left + right) / 2, (top + bottom) / 2];
      if (!document.elementFromPoint(x, y)?.closest(selector)) faults.push(`${selector} is covered`);
    };
    if (document.querySelector("#inspector")?.tagName !== "MAIN") {
      for (const selector of ["[aria-current]", ".new-conversation input", ".composer textarea"]) seen(selector);
    }
    return faults;
  });
}

test.each([
  ["phone", phone, [[320, 640], [360, 740], [390, 844], [412, 915], [430, 932]]],
  ["desktop", desktop, [[768, 1024], [844, 390], [1280, 800], [1920, 1080]]],
] as const)("F73: nothing but the lists scrolls, with 50 conversations: %s", async (_name, options, sizes) => {
  const page = await pages.open("room-40", options);
  await message(page, "row 500").waitFor();
  const toggle = page.getByRole("button", { name: "Inspector" });
  for (const [width, height] of sizes) {
    await page.setViewportSize({ width, height });
    for (const open of ["false", "true"]) {
      if ((await toggle.getAttribute("aria-expanded")) !== open) await toggle.click();
      await vi.waitFor(async () => expect(await misplaced(page), `${width} × ${height}, inspector: ${open}`).toEqual([]));
    }
    await toggle.click();
    // The selected one also when it is another.
    await page.evaluate(() => (window.location.hash = "#/room-2"));
    await page.getByRole("heading", { name: "room-2", exact: true }).waitFor();
    await vi.waitFor(async () => expect(await misplaced(page)).toEqual([]));
    await page.evaluate(() => (window.location.hash = "#/room-40"));
    await message(page, "row 500").waitFor();
  }
});

test("F73: conversations are in the order of their numbers, and a list that ends early says so", async () => {
  const page = await pages.open("room-2");
  const names = () => page.locator(".conversations .name").allTextContents();
  const numbers = (upTo: number) => Array.from({ length: upTo }, (_, n) => `room-${n + 1}`);
  await vi.waitFor(async () => expect(await names()).toEqual(numbers(50)), patience);
  await pages.program.sql(
    `insert into messages (conversation, author, body) select 'room-' || n, 'psql', 'hello' from generate_series(51, 230) n`,
  );
  await page.getByText("The first 200 by name.").waitFor();
  expect(await violations(page)).toEqual([]);
  await page.getByRole("button", { name: "More" }).click();
  await vi.waitFor(async () => expect(await names()).toEqual(numbers(230)), patience);
  await page.getByText(/^The first/).waitFor({ state: "detached" });
  await pages.program.sql("delete from messages where substr(conversation, 6)::int > 50");
  await vi.waitFor(async () => expect(await names()).toEqual(numbers(50)), patience);
});

test("F73, F30: with 500 messages read a change costs one read; back at the end, they are let go", async () => {
  await fill("long");
  const page = await pages.open("long");
  await message(page, "row 500").waitFor();
  const count = async () => (await bodies(page)).length;
  await page.locator(".messages").hover();
  await vi.waitFor(async () => {
    await page.mouse.wheel(0, -6000);
    expect([await count(), await page.getByRole("alert").allTextContents()]).toEqual([500, []]);
  }, patience);
  let reads = 0;
  page.on("request", (request) => {
    if (request.url().endsWith("/ListMessages")) reads++;
  });
  await pages.program.sql("update messages set body = 'row one' where conversation = 'long' and body = 'row 1'");
  await message(page, "row one").waitFor();
  expect(reads).toBe(1);
  await page.getByRole("button", { name: "Newest" }).click();
  await vi.waitFor(async () => expect(await count()).toBe(50), patience);
  expect((await bodies(page)).at(-1)).toBe("row 500");
  expect(await fromEnd(page)).toBeLessThan(2);
});

function fromEnd(page: Page): Promise<number> {
  return page.locator(".messages").evaluate((e) => e.scrollHeight - e.scrollTop - e.clientHeight);
}

/** Where a message stands on the screen. */
async function place(page: Page, body: string): Promise<number> {
  return (await message(page, body).boundingBox())!.y;
}

test("F73: further up, new messages are told of and nothing moves; at the end they are followed", async () => {
  await fill("up");
  const page = await pages.open("up");
  await message(page, "row 480").scrollIntoViewIfNeeded();
  await page.getByRole("button", { name: "Newest" }).waitFor();
  const at = await place(page, "row 480");
  for (const body of ["one", "two", "three"]) await pages.insert("up", body);
  await page.getByRole("button", { name: "3 new messages" }).waitFor();
  await page.locator("[aria-live]", { hasText: "3 new messages below" }).waitFor();
  expect(await violations(page)).toEqual([]);
  // Gone and changed above: the list is another one, what is in sight is the same.
  await pages.program.sql("delete from messages where conversation = 'up' and body in ('row 460', 'row 461')");
  await message(page, "row 461").waitFor({ state: "detached" });
  expect(Math.abs((await place(page, "row 480")) - at)).toBeLessThan(2);

  await page.getByRole("button", { name: "3 new messages" }).click();
  await vi.waitFor(async () => expect(await fromEnd(page)).toBeLessThan(2), patience);
  await page.locator(".messages:focus").waitFor();
  await page.locator(".newest").waitFor({ state: "detached" });
  await pages.insert("up", "four");
  await message(page, "four").waitFor();
  await vi.waitFor(async () => expect(await fromEnd(page)).toBeLessThan(2), patience);
  await page.locator("[aria-live]", { hasText: "psql: four" }).waitFor();

  // A field that grows covers nothing, and whoever sends sees what was sent.
  await page.getByLabel("Message", { exact: true }).fill("a\nb\nc\nd\ne");
  await vi.waitFor(async () => expect(await fromEnd(page)).toBeLessThan(2), patience);
  await message(page, "row 490").scrollIntoViewIfNeeded();
  await page.locator(".newest").waitFor();
  await say(page, "mine");
  await message(page, "mine").waitFor();
  await vi.waitFor(async () => expect(await fromEnd(page)).toBeLessThan(2), patience);
});

test("F73: a delete is asked about, and the focus goes on to the next message", async () => {
  const page = await pages.open("focus");
  for (const body of ["a", "b", "c", "d"]) await pages.insert("focus", body);
  await message(page, "d").waitFor();
  const focused = (body: string) => page.locator("li.message:focus", { hasText: body }).waitFor();

  await message(page, "b").getByRole("button", { name: /^Delete/ }).focus();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Escape");
  await message(page, "b").locator(":focus[aria-label^=Delete]").waitFor(); // kept, and back where it was asked
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Delete for good" }).and(page.locator(":focus")).waitFor();
  expect(await violations(page)).toEqual([]);
  await page.keyboard.press("Enter");
  await message(page, "b").waitFor({ state: "detached" });
  await focused("c");

  // Deleted by somebody else under the focus; then the last one, then all.
  await pages.program.sql("delete from messages where conversation = 'focus' and body = 'c'");
  await focused("d");
  await pages.program.sql("delete from messages where conversation = 'focus' and body = 'd'");
  await focused("a");
  await pages.program.sql("delete from messages where conversation = 'focus'");
  await page.locator(".messages:focus").waitFor();

  // A question is about the text that was on show.
  await pages.insert("focus", "before");
  await message(page, "before").hover();
  await message(page, "before").getByRole("button", { name: /^Delete/ }).click();
  await page.getByRole("button", { name: "Delete for good" }).waitFor();
  await pages.program.sql("update messages set body = 'after' where conversation = 'focus'");
  await message(page, "after").waitFor();
  await page.getByRole("button", { name: "Delete for good" }).waitFor({ state: "detached" });
});

test("F73: by keyboard, what goes when it is pressed hands the focus on", async () => {
  await pages.program.sql(
    `insert into messages (conversation, author, body) select 'keys-' || n, 'psql', 'hello' from generate_series(1, 210) n`,
  );
  await fill("keys-1");
  const page = await pages.open("keys-1");
  const focus = (selector: string) => page.locator(`${selector}:focus`).waitFor();
  await message(page, "row 500").waitFor();

  await page.getByRole("button", { name: "More" }).focus();
  await page.keyboard.press("Enter");
  await page.locator(".conversations li").nth(209).waitFor();
  await focus(".conversations li:last-child a");

  const older = page.getByRole("button", { name: "Older messages" });
  await vi.waitFor(async () => {
    if ((await older.count()) > 0) await older.press("Enter", { timeout: 500 });
    expect(await bodies(page)).toHaveLength(501);
  }, patience);
  await focus(".messages");

  await page.getByLabel("Message", { exact: true }).fill("sent");
  await page.getByRole("button", { name: "Send" }).focus();
  await page.keyboard.press("Enter");
  await focus(".composer textarea");

  await message(page, "sent").getByRole("button", { name: /^Edit/ }).focus();
  await page.keyboard.press("Enter");
  await page.keyboard.type(" and more");
  await pages.program.sql("delete from messages where body = 'sent'");
  await page.getByRole("button", { name: "Discard" }).focus();
  await page.keyboard.press("Enter");
  await focus(".messages");
  await pages.program.sql("delete from messages where conversation like 'keys-%'");
});

test("F73: what is edited stays when somebody deletes it, or it leaves the list, or one looks elsewhere", async () => {
  const page = await pages.open("lost");
  await pages.insert("lost", "theirs");
  await message(page, "theirs").hover();
  await message(page, "theirs").getByRole("button", { name: /^Edit/ }).click();
  const field = page.getByLabel("Message text");
  await field.fill("an hour of work");

  await page.evaluate(() => (window.location.hash = "#/room-1"));
  await message(page, "hello").waitFor();
  expect(await field.count()).toBe(0);
  await page.goBack();
  await field.waitFor();

  await fill("elsewhere");
  await pages.program.sql("update messages set conversation = 'lost' where conversation = 'elsewhere' and body <> 'row 500'");
  await pages.program.sql("update messages set create_time = now() - interval '2 days' where body = 'theirs'");
  await page.getByText("further up").waitFor();
  expect(await field.inputValue()).toBe("an hour of work");

  await pages.program.sql("delete from messages where conversation = 'lost'");
  await page.getByRole("alert").filter({ hasText: "Someone deleted this message" }).waitFor();
  expect(await field.inputValue()).toBe("an hour of work");
  await page.locator("textarea[aria-label='Message text']:focus").waitFor();
  expect(await violations(page)).toEqual([]);
  await page.getByRole("button", { name: "Send as new" }).click();
  await message(page, "an hour of work").waitFor();
  expect(await field.count()).toBe(0);
});

test("F73: forced colours show what is selected; no line is too long at 1920", async () => {
  const forced = await pages.open("room-1", { forcedColors: "active" });
  // Without its transparency: the system's Canvas lies under all of them.
  const background = async (selector: string) => {
    const color = await forced.locator(selector).first().evaluate((e) => getComputedStyle(e).backgroundColor);
    return /\d+, \d+, \d+/.exec(color)![0];
  };
  const canvas = await background(".conversations a:not([aria-current])");
  for (const selected of [".conversations a[aria-current]", "button[aria-expanded=true]"]) {
    expect(await background(selected), selected).not.toBe(canvas);
  }

  await pages.insert("room-1", "word ".repeat(200).trim());
  const wide = await pages.open("room-1", { viewport: { width: 1920, height: 1080 } });
  const line = wide.locator("li.message .body", { hasText: "word word" });
  const most = await line.evaluate((e) => e.getBoundingClientRect().width / parseFloat(getComputedStyle(e).fontSize));
  expect(most).toBeLessThan(55); // about 100 letters
});

test("F73: scripts and styles come compressed", async () => {
  const page = await pages.open("room-1");
  const encodings = await page.evaluate(async () => {
    const files = [...document.querySelectorAll<HTMLScriptElement>("script[src]")].map(({ src }) => src);
    files.push(...[...document.querySelectorAll<HTMLLinkElement>("link[rel=stylesheet]")].map(({ href }) => href));
    return Promise.all(files.map(async (file) => (await fetch(file)).headers.get("content-encoding")));
  });
  expect(encodings.length).toBeGreaterThan(1);
  for (const encoding of encodings) expect(["br", "gzip"]).toContain(encoding);
});
