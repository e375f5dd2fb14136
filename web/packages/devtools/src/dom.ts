type Attributes = Readonly<Record<string, string | number | boolean | undefined>>;
export type Child = Node | string | false | undefined;

/** Makes elements of one document. Text stays text: nothing is parsed. */
export function maker(document: Document) {
  return function make<K extends keyof HTMLElementTagNameMap>(
    tag: K,
    attributes: Attributes = {},
    ...children: readonly Child[]
  ): HTMLElementTagNameMap[K] {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : String(value));
    }
    for (const child of children) if (child !== undefined && child !== false) element.append(child);
    return element;
  };
}

export type Make = ReturnType<typeof maker>;

/** The part of a revision that moves: the position, without its leading zeros. */
export function short(revision: string | undefined): string {
  return revision?.replace(/^\w+-0*(?=\w)/, "") ?? "–";
}

export function ms(value: number): string {
  if (value < 9.95) return `${value.toFixed(1)} ms`;
  return value < 10_000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(0)} s`;
}
