/** The part of a revision that moves: the position, without its leading zeros. */
export function short(revision: string | undefined): string {
  return revision?.replace(/^\w+-0*(?=\w)/, "") ?? "–";
}

export function ms(value: number): string {
  if (value < 9.95) return `${value.toFixed(1)} ms`;
  return value < 10_000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(0)} s`;
}
