import type { MarkdownRenderer } from "vitepress";

/** Marks what theme/style.css gives room: cells by what they hold, and drawings that are scrolled on a phone. */
export function markWide(md: MarkdownRenderer): void {
  md.core.ruler.push("wide", (state) => {
    for (const [n, token] of state.tokens.entries()) {
      const inner = state.tokens[n + 1];
      if (token.type === "td_open") {
        const { length } = inner?.content ?? "";
        if (length > 60) token.attrJoin("class", "sentence");
        else if (length <= 10) token.attrJoin("class", "short");
      } else if (token.type === "paragraph_open" && inner?.children?.length === 1 && inner.content.endsWith(".svg)")) {
        token.attrJoin("class", "drawing");
        token.attrSet("tabindex", "0"); // scrolled by keys, too
      }
    }
  });
}
