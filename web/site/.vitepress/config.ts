// The site: docs/*.md, which read as well on GitHub. What points out of docs/ leads to
// the repository there; that the file exists, and every place within a page that a
// link names, is checked (links.ts), since vitepress looks at pages alone.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type UserConfig } from "vitepress";
import { checkAnchors, docs, repository, slug, toRepository } from "./links.js";
import { markWide } from "./wide.js";

/** The demo's; in each page itself, so that nothing is asked of /favicon.ico. */
const icon = `data:image/svg+xml,${encodeURIComponent(readFileSync(join(docs, "../web/demo/public/favicon.svg"), "utf8").trim())}`;

/** The pages of a folder, by their headings. */
function pagesIn(folder: string): { text: string; link: string }[] {
  return readdirSync(join(docs, folder))
    .filter((file) => file.endsWith(".md"))
    .sort()
    .map((file) => ({
      text: /^# (.+)$/m.exec(readFileSync(join(docs, folder, file), "utf8"))?.[1] ?? file,
      link: join("/", folder, file.slice(0, -3)),
    }));
}

const sidebar = [
  {
    text: "Begin",
    items: [
      { text: "From nothing to a live list", link: "/start" },
      { text: "The races, in pictures", link: "/races" },
      { text: "When to use it, and what else there is", link: "/when-to-use" },
    ],
  },
  {
    text: "Adopt",
    items: [
      { text: "A service of one's own", link: "/library" },
      { text: "From a Connect service", link: "/adopt-connect" },
      { text: "From WebSocket + Zustand", link: "/migrate" },
      { text: "From a REST app", link: "/adopt-rest" },
      { text: "Devtools", link: "/devtools" },
      { text: "Lint rules", link: "/lint/" },
    ],
  },
  {
    text: "Run",
    items: [
      { text: "Deploy", link: "/deploy" },
      { text: "Managed PostgreSQL", link: "/managed-postgres" },
      { text: "Operations", link: "/operations" },
      { text: "Metrics", link: "/metrics" },
      { text: "Versions", link: "/upgrade" },
    ],
  },
  {
    text: "Know",
    items: [
      { text: "Protocol", link: "/protocol" },
      { text: "Conformance", link: "/conformance" },
      { text: "Architecture", link: "/architecture" },
      { text: "Guarantees", link: "/guarantees" },
      { text: "Performance", link: "/performance" },
      { text: "Scaling", link: "/scaling" },
      { text: "Consistency report", link: "/consistency-report" },
      { text: "Soak", link: "/soak" },
    ],
  },
];
const listed = new Set(sidebar.flatMap(({ items }) => items.map(({ link }) => link)));
// A page that nobody has given a place is found all the same.
const others = pagesIn("").filter(({ link }) => link !== "/index" && !listed.has(link));

/** Pages lie outside of this folder: what they import is looked for from here. */
const asIfHere: NonNullable<UserConfig["vite"]>["plugins"] = [
  {
    name: "as-if-here",
    enforce: "pre",
    resolveId(id, importer, options) {
      if (!importer?.startsWith(docs) || !/^vue($|\/)/.test(id)) return null;
      return this.resolve(id, import.meta.filename, { ...options, skipSelf: true });
    },
  },
];

export default defineConfig({
  srcDir: "../../docs",
  outDir: "./dist",
  cacheDir: "./.cache",
  title: "Freshet",
  description: "Typed RPCs on PostgreSQL, and a stream that says what changed.",
  head: [["link", { rel: "icon", type: "image/svg+xml", href: icon }]],
  cleanUrls: true,
  rewrites: { "lint/README.md": "lint/index.md" },
  lastUpdated: false, // the same commit, the same bytes
  appearance: true, // as the system is, and a switch
  vite: { plugins: asIfHere },
  markdown: {
    languageAlias: { haproxy: "ini", caddy: "nginx" },
    anchor: { slugify: slug },
    config: (md) => void md.use(toRepository).use(markWide),
    theme: { light: "github-light-high-contrast", dark: "github-dark-default" },
  },
  buildEnd: checkAnchors,
  transformPageData({ relativePath, frontmatter }) {
    if (relativePath === "metrics.md") frontmatter["aside"] = false; // one wide table, and no outline
  },
  themeConfig: {
    search: { provider: "local" },
    outline: [2, 3],
    socialLinks: [{ icon: "github", link: repository }],
    editLink: { pattern: `${repository}/edit/main/docs/:path` },
    nav: [
      { text: "Start", link: "/start" },
      { text: "Library", link: "/library" },
      { text: "Operations", link: "/operations" },
      { text: "Protocol", link: "/protocol" },
    ],
    sidebar: [
      ...sidebar,
      ...(others.length > 0 ? [{ text: "More", items: others }] : []),
      { text: "Decisions", collapsed: true, items: pagesIn("decisions") },
    ],
  },
});
