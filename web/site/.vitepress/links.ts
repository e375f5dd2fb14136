import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import type { MarkdownRenderer, SiteConfig } from "vitepress";

export const repository = "https://github.com/freshet-dev/freshet";
const root = resolve(import.meta.dirname, "../../..");
export const docs = join(root, "docs");

/** The name of a heading's place as GitHub makes it, so that links hold there and here. */
export function slug(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{M}\p{N}\p{Pc}\- ]/gu, "")
    .replaceAll(" ", "-");
}

/** Links that leave docs/, or lead to no page, go to the repository; the file has to be there. */
export function toRepository(md: MarkdownRenderer): void {
  md.core.ruler.push("repository", (state) => {
    const from: string = state.env.path ?? "";
    for (const block of state.tokens) {
      for (const token of block.children ?? []) {
        const href = token.type === "link_open" ? token.attrGet("href") : null;
        if (href === null || /^([a-z]+:|#|\/)/i.test(href)) continue;
        const [path = "", place] = href.split("#");
        const target = resolve(from, "..", decodeURIComponent(path));
        if (!existsSync(target)) throw new Error(`${relative(root, from)}: there is no ${relative(root, target)}`);
        if (target.startsWith(`${docs}/`) && /\.(md|svg|jpg|png)$/.test(target)) continue;
        token.attrSet("href", `${repository}/blob/main/${relative(root, target)}${place === undefined ? "" : `#${place}`}`);
      }
    }
  });
}

/** Every `href="page#place"` of the site must have its place. */
export function checkAnchors({ outDir }: SiteConfig): void {
  const pages = new Map<string, { places: Set<string>; links: string[] }>();
  for (const file of readdirSync(outDir, { recursive: true, encoding: "utf8" })) {
    if (!file.endsWith(".html")) continue;
    const html = readFileSync(join(outDir, file), "utf8");
    pages.set(`/${file.replace(/(^|\/)index\.html$/, "$1").replace(/\.html$/, "")}`, {
      places: new Set([...html.matchAll(/\sid="([^"]+)"/g)].map(([, id]) => id!)),
      links: [...html.matchAll(/\shref="([^"]*#[^"]+)"/g)].map(([, href]) => href!),
    });
  }
  const broken: string[] = [];
  for (const [page, { links }] of pages) {
    for (const link of links) {
      const { origin, pathname, hash } = new URL(link, `http://site${page}`);
      if (origin !== "http://site") continue;
      if (!pages.get(pathname)?.places.has(decodeURIComponent(hash.slice(1)))) broken.push(`${page}: ${link}`);
    }
  }
  if (pages.size < 2) throw new Error("no pages were looked at");
  if (broken.length > 0) throw new Error(`no such place:\n${[...new Set(broken)].join("\n")}`);
}
