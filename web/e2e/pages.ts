import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium, type Browser, type BrowserContext, type BrowserContextOptions, type Locator, type Page, type Response } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { Program } from "./program.js";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const desktop = { viewport: { width: 1280, height: 800 } };
export const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

/** The program with its page, and browser windows on it that end with each test. */
export class Pages {
  program!: Program;
  browser!: Browser;
  readonly #open: Page[] = [];
  readonly #flags: readonly string[];
  readonly #expected: RegExp;
  #complaints: string[] = [];
  /** Of reads that asked for more than a history that has ended: they are repeated. */
  #epochs: Promise<boolean>[] = [];

  private constructor(flags: readonly string[], expected: RegExp) {
    this.#flags = flags;
    this.#expected = expected;
  }

  /**
   * Registers what goes before and after the tests of a file. The browser says so
   * of every request that fails: by default, while the server is away, on a
   * conflict, and of a message that is gone.
   */
  static forFile(flags: readonly string[] = [], expected = /net::ERR_|status of (404|409|50[234])/): Pages {
    const pages = new Pages(flags, expected);
    beforeAll(() => pages.#start());
    afterAll(() => pages.#close());
    afterEach(() => pages.#closePages());
    return pages;
  }

  /** A window of its own, without what others have stored or share. */
  async open(conversation: string, options: BrowserContextOptions = {}): Promise<Page> {
    const page = await this.blank(await this.browser.newContext({ ...desktop, ...options }));
    await page.goto(`${this.program.url}/#/${conversation}`);
    await live(page);
    return page;
  }

  /** A tab that hasn't gone anywhere yet, and is looked after. */
  async blank(context: BrowserContext): Promise<Page> {
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    page.on("pageerror", (error) => this.#complaints.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error" && !this.#expected.test(message.text())) this.#complaints.push(message.text());
    });
    page.on("response", (response) => {
      if (response.status() === 400) this.#epochs.push(saysEpochChanged(response));
    });
    this.#open.push(page);
    return page;
  }

  insert(conversation: string, body: string): Promise<void> {
    return this.program.sql(
      "insert into messages (conversation, author, body) values ($1, 'psql', $2)",
      conversation,
      body,
    );
  }

  async #start(): Promise<void> {
    this.program = await Program.start(...this.#flags);
    const page = await (await fetch(this.program.url)).text();
    if (!page.includes('id="root"')) {
      throw new Error("the program was built without its page: run `make build`");
    }
    this.browser = await chromium.launch({
      executablePath: process.env["FRESHET_CHROMIUM"],
      // Chromium's sandbox refuses root.
      args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
    });
  }

  async #close(): Promise<void> {
    await this.browser?.close();
    await this.program?.close();
  }

  async #closePages(): Promise<void> {
    const epochs = (await Promise.all(this.#epochs.splice(0))).filter(Boolean).length;
    for (const page of this.#open.splice(0)) await page.context().close();
    let left = epochs; // of these the browser says no more than that they were a 400
    const said = this.#complaints.filter((text) => !/status of 400/.test(text) || --left < 0);
    this.#complaints = [];
    // No error, and nothing that the page's policy refused.
    expect(said).toEqual([]);
  }
}

/** Whether a 400 is what a client has to expect of a server whose database was lost. */
async function saysEpochChanged(response: Response): Promise<boolean> {
  try {
    return (await response.text()).includes("EPOCH_CHANGED");
  } catch {
    return false; // the page has gone
  }
}

export function live(page: Page): Promise<void> {
  return page.getByRole("status").filter({ hasText: "Live" }).waitFor({ timeout: 40_000 });
}

/** A message that the server has; what is being sent doesn't count. */
export function message(page: Page, body: string): Locator {
  return page.locator("li.message:not(.sending)").filter({ has: page.getByText(body, { exact: true }) });
}

export async function say(page: Page, body: string): Promise<void> {
  await page.bringToFront(); // a hidden page is throttled
  await page.getByLabel("Message", { exact: true }).fill(body);
  await page.keyboard.press("Enter");
}

/** The bodies on show, in order. */
export function bodies(page: Page): Promise<string[]> {
  return page.locator("li.message .body").allTextContents();
}

/** What axe finds wrong, by rule. Evaluated, since the page's policy lets no script in. */
export async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  return page.evaluate(async () => {
    const { violations } = await window.axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    });
    return violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html}`));
  });
}

declare global {
  interface Window {
    axe: { run(context: Document, options: object): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> };
  }
}
