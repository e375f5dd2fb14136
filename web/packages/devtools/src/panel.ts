import type { Devtools } from "./devtools.js";
import { maker, type Child, type Make } from "./dom.js";
import { frameItems } from "./frames.js";
import { journeyBars } from "./journeys.js";
import type { Counts } from "./picture.js";
import { queryRows } from "./queries.js";
import { styles } from "./styles.js";

export type Theme = "light" | "dark" | "system";

export interface PanelOptions {
  /** Default: `system`, as the browser is set. */
  readonly theme?: Theme | undefined;
}

/** A panel that is on show. */
export interface Panel {
  setTheme(theme: Theme): void;
  /** Takes it away. Idempotent. */
  unmount(): void;
}

/**
 * Puts a panel into an element, which may be of another window's document. Its content
 * is a shadow tree of a child, so that the page's styles and the panel's don't meet.
 */
export function mountPanel(container: Element, devtools: Devtools, options: PanelOptions = {}): Panel {
  const document = container.ownerDocument;
  const view = document.defaultView;
  const make = maker(document);
  const host = make("div", { "data-theme": options.theme ?? "system" });
  const shadow = host.attachShadow({ mode: "open" });
  if (view) {
    // Not an element: a page's Content-Security-Policy need not allow it.
    const sheet = new view.CSSStyleSheet();
    sheet.replaceSync(styles);
    shadow.adoptedStyleSheets = [sheet];
  }
  const content = build(make, devtools);
  shadow.append(content.root);
  container.append(host);

  // `Devtools` tells of what it saw, queries too, 80 ms apart at least. What it tells is
  // drawn with the screen's next frame, and not at all while nobody sees the page.
  let frame = 0;
  const look = () => {
    frame = 0;
    content.update();
  };
  const plan = () => {
    if (frame === 0) frame = view?.requestAnimationFrame(look) ?? 0;
  };
  const stop = devtools.onChange(plan);
  look();
  return {
    setTheme: (theme) => host.setAttribute("data-theme", theme),
    unmount() {
      stop();
      view?.cancelAnimationFrame(frame);
      host.remove();
    },
  };
}

/** What stays, and what fills it anew: lists keep their place and the focus. */
function build(make: Make, devtools: Devtools) {
  const state = make("p", { class: "stream", role: "group", "aria-label": "The stream's state" });
  const numbers = make("dl", { class: "counts", "aria-label": "Since the page was opened" });
  const unread = make("p", { class: "hint" });
  const rows = make("tbody");
  const table = make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Queries" }, make("table", {}, head(make), rows));
  const none = make("p", { class: "hint" }, "Nothing has changed since the page was opened.");
  const key = make("p", { class: "hint key" }, make("span", { "data-part": "told" }, "commit → notice"), make("span", { "data-part": "read" }, "notice → data on show"));
  const unexplained = make("p", { class: "hint" }, "When the commit was, and what it changed, isn't known: the server says it with ", make("code", {}, "--explain"), ", a service of one's own with ", make("code", {}, "Config.Explain"), ".");
  const bars = make("ol", { class: "journeys", "aria-label": "Notices, newest first" });
  const log = make("ol", { class: "log", "aria-label": "Events, newest first", tabindex: 0 });
  const below = make("p", { class: "hint" }, "While ", make("b", {}, "have"), " is below ", make("b", {}, "need"), " it is read again, at least ", make("b", {}, "need"), ".");
  const root = make(
    "div",
    { class: "panel" },
    section("Now", state, numbers, unread),
    devtools.queries && section("Queries", table, below),
    section("Commit → notice → refetch", none, key, bars, unexplained),
    section("The stream", make("p", { class: "hint" }, "Which topics changed, up to which revision. Never a row: the page reads again."), log),
  );

  function section(title: string, ...children: Child[]): HTMLElement {
    return make("section", {}, make("h2", {}, title), ...children);
  }

  function update(): void {
    const { frames, journeys, causes, counts } = devtools.picture;
    const { freshness, revision, lagMs, error, tokenError } = devtools.freshet.status;
    state.dataset["freshness"] = freshness;
    state.replaceChildren(
      make("b", {}, freshness),
      ...(lagMs > 0 ? [make("span", {}, `${lagMs} ms behind`)] : []),
      make("code", { title: "the highest revision told" }, revision ?? "nothing told yet"),
      make("span", {}, devtools.freshet.leads ? "This tab holds it." : "Another tab holds it."),
      ...[error, tokenError].flatMap((failed) => (failed === undefined ? [] : make("span", {}, message(failed)))),
    );
    numbers.replaceChildren(...countItems(make, counts));
    unread.hidden = counts.reads > 0;
    unread.replaceChildren(...whyUnread(make, counts.requests));
    rows.replaceChildren(...queryRows(make, devtools.queries?.report() ?? [], causes));
    bars.replaceChildren(...journeyBars(make, journeys));
    none.hidden = journeys.length > 0;
    key.hidden = bars.hidden = journeys.length === 0;
    unexplained.hidden = counts.reads === 0 || journeys.every(({ freshAt }) => freshAt === undefined) || journeys.some(({ committedAt, cause }) => committedAt !== undefined || cause);
    log.replaceChildren(...frameItems(make, frames));
  }
  return { root, update };
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function head(make: Make): HTMLElement {
  const cell = (name: string, title?: string) => make("th", { scope: "col", title }, name);
  const [need, asked, have] = ["the highest revision told of its topics", "at-least of the request under way", "up to here the data on show is complete"];
  return make("thead", {}, make("tr", {}, cell("query"), cell("need", need), cell("asked", asked), cell("have", have)));
}

/** Why SQL run and saved are unknown. */
function whyUnread(make: Make, requests: number): (Node | string)[] {
  const code = (text: string) => make("code", {}, text);
  if (requests === 0) return ["SQL run and saved are counted of reads that are sent by ", code("devtools.fetch"), ": none yet. Give it to the transport, as ", code("fetch"), "."];
  return ["SQL run and saved are what answers say in ", code("Freshet-Cache"), ": none yet. On another origin the server has to expose that header."];
}

function countItems(make: Make, { notices, refetches, reads, queries, saved }: Counts): HTMLElement[] {
  const item = (name: string, value: number | string, title: string) => make("div", { title }, make("dt", {}, name), make("dd", {}, String(value)));
  return [
    item("notices", notices, "invalidate events heard"),
    item("refetches", refetches, "fetches begun because a notice made data old"),
    item("SQL run", reads > 0 ? queries : "–", "reads that ran a query: Freshet-Cache: miss"),
    item("SQL saved", reads > 0 ? saved : "–", "reads that shared somebody’s query or were answered from what is proven unchanged: joined, hit"),
  ];
}
