import type { MarkdownRenderer } from "vitepress";

/** Marks the cells that hold sentences (theme/style.css): they need room, whatever stands beside them. */
export function markSentences(md: MarkdownRenderer): void {
  md.core.ruler.push("sentences", (state) => {
    for (const [n, token] of state.tokens.entries()) {
      if (token.type === "td_open" && (state.tokens[n + 1]?.content.length ?? 0) > 60) token.attrJoin("class", "sentence");
    }
  });
}
