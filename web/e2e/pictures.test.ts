import type { BrowserContextOptions } from "playwright-core";
import { test, vi, expect } from "vitest";
import { message, Pages, phone } from "./pages.js";

const pages = Pages.forFile(["--explain"]); // the inspector says causes, too

const talk: readonly [string, string][] = [
  ["Grace", "The batch job is through. Did anyone tell the list?"],
  ["Ada", "Nobody has to. It commits, the stream says which topics changed, and the page reads again."],
  ["psql", "nightly import: 1,204 rows"],
  ["Linus", "So what if my answer comes later than the notice?"],
  ["Ada", "Then it is below what is needed, and nobody ever sees it."],
];

// Those kept in docs/page are copies: see CONTRIBUTING.md.
test("pictures for people to look at", async () => {
  for (const [author, body] of talk) {
    await pages.program.sql(
      "insert into messages (conversation, author, body) values ('general', $1, $2)",
      author,
      body,
    );
  }
  for (const room of ["deploys", "random", "support"]) await pages.insert(room, "hello");

  const wide = { viewport: { width: 1360, height: 850 } };
  const narrow = { viewport: { width: 1100, height: 760 } };
  const shots: [string, boolean, BrowserContextOptions][] = [
    ["light", false, { ...narrow, colorScheme: "light" }],
    ["dark", false, { ...narrow, colorScheme: "dark" }],
    ["inspector", true, { ...wide, colorScheme: "light" }],
    ["inspector-dark", true, { ...wide, colorScheme: "dark" }],
    ["phone", false, { ...phone, colorScheme: "light" }],
    ["phone-inspector", true, { ...phone, colorScheme: "dark" }],
  ];
  // Somebody else who looks on: so that two share a query.
  await pages.open("general");
  for (const [name, inspected, options] of shots) {
    const page = await pages.open("general", { ...options, reducedMotion: "reduce" });
    await message(page, "nightly import: 1,204 rows").waitFor();
    const toggle = page.getByRole("button", { name: "Inspector" });
    if ((await toggle.getAttribute("aria-expanded")) !== String(inspected)) await toggle.click();
    if (inspected) {
      for (let n = 0; n < 4; n++) {
        await pages.insert("random", `row ${n}`);
        await page.locator(".latency", { hasText: "told" }).nth(n).waitFor();
        await page.locator(".journeys").getByText("insert of public.messages").nth(n).waitFor();
      }
      await vi.waitFor(async () => expect(await page.locator("tr[data-state=live]").count()).toBe(2));
    }
    await page.screenshot({
      path: new URL(`shots/${name}.jpg`, import.meta.url).pathname,
      type: "jpeg",
      quality: 82,
    });
  }
});
