import type { Locator, Page } from "playwright-core";
import { expect, test, vi } from "vitest";
import { bodies, desktop, live, message, Pages, phone, say, violations } from "./pages.js";

const pages = Pages.forFile();
const patience = { timeout: 40_000, interval: 50 };

/** With the inspector beside the page. */
const wide = { viewport: { width: 1360, height: 850 } };

function inspector(page: Page): Locator {
  return page.locator("#inspector");
}

async function count(page: Page, name: string): Promise<number> {
  return Number(await inspector(page).locator("dt", { hasText: name }).locator("xpath=../dd").textContent());
}

test.each([
  ["light", { ...wide, colorScheme: "light" as const }],
  ["dark", { ...wide, colorScheme: "dark" as const }],
  ["phone", { ...phone, colorScheme: "light" as const }],
  ["phone, dark", { ...phone, colorScheme: "dark" as const }],
])("axe finds nothing: %s", async (name, options) => {
  const room = `axe-${name.replace(", ", "-")}`;
  await pages.insert(room, "a row");
  const page = await pages.open(room, { ...options, reducedMotion: "reduce" });
  await message(page, "a row").waitFor();
  expect(await violations(page)).toEqual([]);
  const toggle = page.getByRole("button", { name: "Inspector" });
  if ((await toggle.getAttribute("aria-expanded")) === "false") await toggle.click();
  await pages.insert(room, "another");
  await inspector(page).getByText(/told .* read/).first().waitFor();
  expect(await violations(page)).toEqual([]);
  // Nothing sticks out: a phone would scroll sideways.
  const [width, inner] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  expect(width).toBeLessThanOrEqual(inner!);
});

test("by keyboard on a phone: it covers the page, and Escape leads back", async () => {
  const page = await pages.open("escape", { ...phone, isMobile: false });
  await page.getByRole("button", { name: "Inspector" }).focus();
  await page.keyboard.press("Enter");
  await inspector(page).getByText("Queries", { exact: true }).waitFor();
  await page.keyboard.press("Tab");
  expect(await inspector(page).locator(":focus").count()).toBe(1);
  // The page below is out of reach: the focus never gets there.
  const below = page.locator(".room :focus, .conversations :focus");
  for (let n = 0; n < 20; n++) {
    await page.keyboard.press("Tab");
    expect(await below.count()).toBe(0);
  }
  await inspector(page).getByRole("button", { name: /^Cut/ }).focus();
  await page.keyboard.press("Escape");
  await inspector(page).waitFor({ state: "hidden" });
  await page.locator("#inspector-toggle:focus").waitFor();
});

test("a notice's way: told, asked for, on show; and what it cost", async () => {
  const [page, other] = [await pages.open("way", wide), await pages.open("way", wide)];
  const before = await count(page, "notices");
  await pages.insert("way", "by SQL");
  await message(page, "by SQL").waitFor();
  const row = inspector(page).getByRole("row", { name: /ListMessages/ });
  await vi.waitFor(async () => {
    expect(await count(page, "notices")).toBeGreaterThan(before);
    const [need, , have] = await row.locator("td").allTextContents();
    expect(parseInt(have!, 16)).toBeGreaterThanOrEqual(parseInt(need!, 16));
  }, patience);
  await inspector(page).getByText(/told [\d.]+ m?s · read/).first().waitFor();
  await inspector(page).getByRole("list", { name: /Events/ }).getByText("conversations/way/messages").first().waitFor();
  // Two windows read the same: of some of these reads only one ran a query.
  await vi.waitFor(async () => {
    await pages.insert("way", "again");
    await message(other, "again").first().waitFor();
    expect((await count(page, "SQL saved")) + (await count(other, "SQL saved"))).toBeGreaterThan(0);
  }, patience);
});

// F33: each one's notice is foreign to the others, and comes before or after their commits.
test("twenty writes at once: none flickers, few refetches, each message once", async () => {
  const [page, other] = [await pages.open("burst", wide), await pages.open("burst", wide)];
  await page.evaluate(() => {
    const shown = new Set<string>();
    window.shown = []; // what went away again, or was there twice
    new MutationObserver(() => {
      const now = [...document.querySelectorAll("li.message .body")].map((body) => body.textContent ?? "");
      for (const body of shown) if (!now.includes(body)) window.shown.push(`${body} went away`);
      if (new Set(now).size < now.length) window.shown.push(`twice: ${now.join()}`);
      for (const body of now) shown.add(body);
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
  });
  const before = await count(page, "refetches");
  await inspector(page).getByRole("button", { name: "Write 20 at once" }).click();
  const all = Array.from({ length: 20 }, (_, n) => `write ${n + 1} of 20`).sort();
  for (const window of [page, other]) {
    await vi.waitFor(async () => {
      expect(await window.locator("li.message:not(.sending)").count()).toBe(20);
      expect((await bodies(window)).sort()).toEqual(all);
    }, patience);
  }
  expect(await page.evaluate(() => window.shown)).toEqual([]);
  // At the worst, on a machine that does them one by one, each write costs both queries one.
  const refetches = (await count(page, "refetches")) - before;
  console.log(`20 writes at once: ${refetches} refetches of two queries`);
  expect(refetches).toBeLessThanOrEqual(44);
});

test("a cut stream: what was missed is on show once it is back", async () => {
  const page = await pages.open("cut", wide);
  await inspector(page).getByRole("button", { name: /^Cut/ }).click();
  await page.locator(".freshness[data-freshness=offline]").waitFor();
  await pages.insert("cut", "missed");
  await inspector(page).getByRole("button", { name: /^Mend/ }).click();
  await live(page);
  await message(page, "missed").waitFor();
});

test("answers that overtake each other never take the page back", async () => {
  const page = await pages.open("race", wide);
  await inspector(page).getByLabel("shuffled").check();
  // Each value that the message shows, in order: it may skip, never return.
  await pages.insert("race", "0");
  await message(page, "0").waitFor();
  await page.evaluate(() => {
    window.shown = [];
    new MutationObserver(() => {
      const value = document.querySelector("li.message .body")?.textContent ?? "";
      if (window.shown.at(-1) !== value) window.shown.push(value);
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
  });
  for (let n = 1; n <= 30; n++) await pages.program.sql("update messages set body = $1 where conversation = 'race'", `${n}`);
  await message(page, "30").waitFor();
  const shown = (await page.evaluate(() => window.shown)).map(Number);
  expect(shown).toEqual([...shown].sort((a, b) => a - b));
});

test("a message is on show before the server has it, and comes back as a draft if it fails", async () => {
  const page = await pages.open("send", wide);
  await inspector(page).getByLabel("0.4 s").check();
  // How it was on show, in order: what is over soon can't be waited for.
  await page.evaluate(() => {
    window.shown = [];
    new MutationObserver(() => {
      const state = document.querySelector("li.message")?.className ?? "none";
      if (window.shown.at(-1) !== state) window.shown.push(state);
    }).observe(document.body, { subtree: true, childList: true, attributes: true });
  });
  await say(page, "soon there");
  await message(page, "soon there").waitFor();
  const states = await page.evaluate(() => window.shown);
  expect(states.filter((state) => state !== "none")).toEqual(["message sending", "message"]);
  expect((await bodies(page)).filter((body) => body === "soon there")).toHaveLength(1);

  await page.context().setOffline(true);
  await say(page, "not now");
  await page.getByRole("alert").getByText("can't be reached").waitFor();
  expect(await page.getByLabel("Message", { exact: true }).inputValue()).toBe("not now");
  await vi.waitFor(async () => expect(await bodies(page)).toEqual(["soon there"]), patience);
  await page.context().setOffline(false);
});

test("drafts and editors stay as they are, whatever the stream brings", async () => {
  const page = await pages.open("draft", desktop);
  await pages.insert("draft", "first");
  await message(page, "first").waitFor();
  const field = page.getByLabel("Message", { exact: true });
  await field.fill("half a sentence");
  await field.evaluate((element: HTMLTextAreaElement) => element.setSelectionRange(5, 9));
  for (let n = 0; n < 10; n++) await pages.insert("draft", `row ${n}`);
  await message(page, "row 9").waitFor();
  expect(
    await field.evaluate((e: HTMLTextAreaElement) => [e.value, e.selectionStart, e.selectionEnd, e === document.activeElement]),
  ).toEqual(["half a sentence", 5, 9, true]);
  await page.goto(`${pages.program.url}/#elsewhere`);
  await page.getByRole("heading", { name: "elsewhere" }).waitFor();
  await page.goBack();
  await message(page, "row 9").waitFor();
  expect(await field.inputValue()).toBe("half a sentence");
});

test("infinite scroll: older messages come, what is in sight stays, a change refetches all of it", async () => {
  await pages.program.sql(
    `insert into messages (conversation, author, body, create_time)
     select 'long', 'psql', 'row ' || n, now() - interval '1 day' + n * interval '1 second' from generate_series(1, 120) n`,
  );
  const page = await pages.open("long", desktop);
  await message(page, "row 120").waitFor();
  expect(await bodies(page)).toHaveLength(50);
  await page.locator(".messages").hover();
  await vi.waitFor(async () => {
    await page.mouse.wheel(0, -2000);
    expect(await bodies(page)).toHaveLength(120);
  }, patience);
  // Not thrown to the top by what came above, nor to the end.
  const place = () => page.locator(".messages").evaluate((e) => e.scrollHeight - e.scrollTop - e.clientHeight);
  await page.locator("li.message").nth(60).scrollIntoViewIfNeeded();
  const at = await place();
  await pages.program.sql("update messages set body = 'row one' where conversation = 'long' and body = 'row 1'");
  await pages.program.sql("delete from messages where conversation = 'long' and body = 'row 2'");
  await vi.waitFor(async () => {
    const all = await bodies(page);
    expect([all.length, all[0], all[1]]).toEqual([119, "row one", "row 3"]);
  }, patience);
  expect(Math.abs((await place()) - at)).toBeLessThan(5);
});

declare global {
  interface Window {
    shown: string[];
  }
}
