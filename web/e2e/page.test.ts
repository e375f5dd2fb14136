import { expect, test } from "vitest";
import { live, message, Pages, say } from "./pages.js";

const pages = Pages.forFile();

test("what one page writes, the other shows: create, edit, delete", async () => {
  const [ada, grace] = [await pages.open("pair"), await pages.open("pair")];
  await say(ada, "hello from Ada");
  await message(ada, "hello from Ada").waitFor();
  await message(grace, "hello from Ada").waitFor();
  await grace.getByRole("link", { name: /pair/ }).getByText("1 messages").waitFor();

  await grace.bringToFront();
  await message(grace, "hello from Ada").hover();
  await message(grace, "hello from Ada").getByRole("button", { name: /^Edit/ }).click();
  await grace.getByLabel("Message text").fill("hello from both");
  await grace.keyboard.press("Enter");
  await message(ada, "hello from both").getByText("edited").waitFor();

  await ada.bringToFront();
  await message(ada, "hello from both").hover();
  await message(ada, "hello from both").getByRole("button", { name: /^Delete/ }).click();
  await ada.getByRole("button", { name: "Delete for good" }).click();
  await message(grace, "hello from both").waitFor({ state: "detached" });
  await message(ada, "hello from both").waitFor({ state: "detached" });
});

test("what SQL writes behind the API's back, both pages show", async () => {
  const [left, right] = [await pages.open("sql-left"), await pages.open("sql-right")];
  await pages.insert("sql-left", "a row");
  await message(left, "a row").waitFor();
  await right.getByRole("link", { name: /sql-left/ }).waitFor();

  // F4: the old and the new conversation are told of a move.
  await pages.program.sql("update messages set conversation = 'sql-right' where body = 'a row'");
  await message(left, "a row").waitFor({ state: "detached" });
  await message(right, "a row").waitFor();

  await pages.program.sql("delete from messages where body = 'a row'");
  await message(right, "a row").waitFor({ state: "detached" });
});

test("a change by someone else under an open editor is a conflict, not lost", async () => {
  const page = await pages.open("conflict");
  await pages.insert("conflict", "first");
  await message(page, "first").hover();
  await message(page, "first").getByRole("button", { name: /^Edit/ }).click();
  await pages.program.sql("update messages set body = 'theirs' where conversation = 'conflict'");
  await page.getByLabel("Message text").fill("mine");
  await page.keyboard.press("Enter");
  await page.getByText("Someone else changed this message").waitFor();
  expect(await page.getByLabel("Message text").inputValue()).toBe("mine");
  await page.keyboard.press("Escape");
  await message(page, "theirs").waitFor();
});

test("all of it by keyboard", async () => {
  const page = await pages.open("keys");
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
  await page.keyboard.press("Enter"); // for good
  await message(page, "typed again").waitFor({ state: "detached" });
});

test.each(["SIGTERM", "SIGKILL"] as const)("both pages converge after %s and a restart", async (signal) => {
  const room = `restart-${signal.toLowerCase()}`;
  const [left, right] = [await pages.open(room), await pages.open(room)];
  await pages.insert(room, "before");
  await Promise.all([message(left, "before").waitFor(), message(right, "before").waitFor()]);
  await pages.program.stop(signal);
  for (const page of [left, right]) {
    await page.getByRole("status").filter({ hasText: "Reconnecting" }).waitFor();
    await message(page, "before").waitFor(); // what was read stays on screen
  }
  await pages.program.start();
  await pages.insert(room, "while away"); // most likely before the pages are back
  await Promise.all([live(left), live(right)]);
  await Promise.all([message(left, "while away").waitFor(), message(right, "while away").waitFor()]);
  await say(left, "after");
  await message(right, "after").waitFor();
});

test("a page that was offline catches up", async () => {
  const page = await pages.open("offline");
  await page.context().setOffline(true);
  await pages.insert("offline", "missed");
  await page.context().setOffline(false);
  await message(page, "missed").waitFor({ timeout: 45_000 });
});
