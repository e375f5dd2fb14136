import type { Frame } from "@freshet/query";
import { short, type Make } from "./dom.js";
import type { Seen } from "./picture.js";

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

export function frameItems(make: Make, frames: readonly Seen[]): HTMLElement[] {
  return frames.map(({ at, frame }) =>
    make(
      "li",
      { "data-type": frame.type },
      make("time", { datetime: new Date(at).toISOString() }, clock.format(at)),
      make("b", {}, frame.type),
      make("code", { title: frame.revision }, short(frame.revision)),
      make("span", { class: "detail" }, detailOf(frame)),
    ),
  );
}

function detailOf(frame: Frame): string {
  switch (frame.type) {
    case "invalidate":
      return frame.topics.join(", ");
    case "ready":
      return "every later change will be told";
    case "reset":
      return `another history (${frame.reason})`;
    case "frontier":
      return frame.lagMs > 0 ? `${frame.lagMs} ms behind` : "nothing untold";
  }
}
