import { ms, short, type Make } from "./dom.js";
import type { Journey } from "./picture.js";

const shownJourneys = 8;

/** To the notice: undefined where nothing says when the row was written. */
function toldAfter({ committedAt, toldAt }: Journey): number | undefined {
  return committedAt === undefined ? undefined : Math.max(0, toldAt - committedAt);
}

function freshAfter({ toldAt, freshAt }: Journey): number | undefined {
  return freshAt === undefined ? undefined : freshAt - toldAt;
}

/** One bar per notice, all on one scale. */
export function journeyBars(make: Make, journeys: readonly Journey[]): HTMLElement[] {
  const shown = journeys.slice(0, shownJourneys);
  const scale = Math.max(20, ...shown.map((journey) => (toldAfter(journey) ?? 0) + (freshAfter(journey) ?? 0)));
  const part = (name: string, length = 0) => {
    const element = make("span", { "data-part": name });
    element.style.width = `${(length / scale) * 100}%`;
    return element;
  };
  return shown.map((journey) => {
    const told = toldAfter(journey);
    const fresh = freshAfter(journey);
    const early = journey.askedAt !== undefined && journey.askedAt < journey.toldAt;
    const read = fresh === undefined ? "reading…" : early && fresh < 1 ? "read before" : `read ${ms(fresh)}`;
    return make(
      "li",
      {},
      make("code", { title: `${journey.revision}\n${journey.topics.join("\n")}` }, short(journey.revision)),
      make("span", { class: "track", "aria-hidden": "true" }, part("told", told), part("read", fresh)),
      make("span", { class: "latency" }, `${told === undefined ? "" : `told ${ms(told)} · `}${read}`),
      journey.cause && make("span", { class: "detail" }, journey.cause.text),
    );
  });
}
