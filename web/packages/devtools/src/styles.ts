/** Of the panel alone: it lives in a shadow tree, where no style of the page's gets. */
export const styles = `
:host {
  --ground: #f3f6f7; --surface: #ffffff; --sunken: #eaeff1; --line: #d8e0e3;
  --text: #17252b; --muted: #566870; --accent: #0b7285; --danger: #b42318;
  --ok: #12805c; --warn: #a15c00; --told: #b06a00;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  color-scheme: light;
  display: block;
  color: var(--text);
  background: var(--ground);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  text-align: left;
}
${dark(':host([data-theme="dark"])')}
@media (prefers-color-scheme: dark) {
  ${dark(':host([data-theme="system"])')}
}
*, *::before, *::after { box-sizing: border-box; }
h2, p, ol, dl, dd { margin: 0; padding: 0; }
ol { list-style: none; }
code { font-family: var(--mono); font-size: 0.86em; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.panel { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1.4rem; padding: 1rem; }
section { display: grid; min-width: 0; align-content: start; justify-items: start; gap: 0.55rem; }
section > * { max-width: 100%; }
h2 { color: var(--muted); font-size: 0.75rem; font-weight: 650; letter-spacing: 0.06em; text-transform: uppercase; }
.hint { color: var(--muted); font-size: 0.85rem; }
.stream { display: flex; flex-wrap: wrap; align-items: center; gap: 0.2rem 0.7rem; font-size: 0.85rem; }
.stream b { display: inline-flex; align-items: center; gap: 0.45rem; }
.stream b::before { width: 0.55rem; height: 0.55rem; border-radius: 50%; background: var(--warn); content: ""; }
.stream[data-freshness="live"] b::before { background: var(--ok); }
.stream[data-freshness="offline"] b::before { background: var(--danger); }
.stream span { color: var(--muted); }

.counts { display: grid; width: 100%; grid-template-columns: repeat(4, minmax(0, 1fr)); border: 1px solid var(--line); border-radius: 10px; background: var(--surface); }
.counts > div { display: flex; flex-direction: column-reverse; justify-content: flex-end; padding: 0.5rem 0.65rem; }
.counts > div + div { border-left: 1px solid var(--line); }
dt { color: var(--muted); font-size: 0.75rem; }
dd { font-size: 1.25rem; font-variant-numeric: tabular-nums; font-weight: 650; line-height: 1.25; }

.scroll { position: relative; width: 100%; overflow-x: auto; border: 1px solid var(--line); border-radius: 10px; background: var(--surface); }
table { width: 100%; border-collapse: collapse; font-size: 0.8rem; }
th, td { padding: 0.35rem 0.55rem; text-align: right; vertical-align: top; white-space: nowrap; }
td { font-family: var(--mono); font-size: 0.75rem; line-height: 1.6; }
th:first-child { width: 100%; min-width: 8rem; max-width: 0; overflow: hidden; text-align: left; text-overflow: ellipsis; }
thead th { color: var(--muted); font-weight: 500; }
tbody tr { border-top: 1px solid var(--line); }
tbody th { font-weight: 600; }
small { display: block; overflow: hidden; color: var(--muted); font-weight: 400; text-overflow: ellipsis; }
.why { overflow-wrap: anywhere; white-space: normal; }
tr[data-state="live"] td:last-child { color: var(--ok); }
tr[data-state="catching up"] td:nth-child(2), tr[data-state="reading"] td:nth-child(3) { color: var(--warn); }

.journeys { display: grid; width: 100%; gap: 0.35rem; font-size: 0.75rem; }
.journeys li { display: grid; align-items: center; grid-template-columns: 4.2rem minmax(3rem, 1fr) 10.8rem; gap: 0 0.6rem; }
.journeys code { overflow: hidden; color: var(--muted); text-overflow: ellipsis; }
.journeys .detail { grid-column: 2 / -1; color: var(--muted); }
.track { display: flex; height: 0.6rem; overflow: hidden; border-radius: 3px; background: var(--sunken); }
.track > * { min-width: 1px; }
[data-part="told"], .key > [data-part="told"]::before { background: var(--told); }
[data-part="read"], .key > [data-part="read"]::before { background: var(--accent); }
.key > [data-part] { background: none; }
.key:not([hidden]) { display: flex; flex-wrap: wrap; gap: 0 1rem; }
.key > *::before { display: inline-block; width: 0.6rem; height: 0.6rem; margin-right: 0.4rem; border-radius: 3px; content: ""; }
.latency { font-variant-numeric: tabular-nums; white-space: nowrap; }

.log { position: relative; display: grid; align-content: start; width: 100%; max-height: 22rem; overflow-y: auto; border: 1px solid var(--line); border-radius: 10px; background: var(--surface); font-size: 0.8rem; }
.log:empty { display: none; }
.log li { display: grid; align-items: baseline; grid-template-columns: auto auto minmax(0, 1fr); gap: 0 0.55rem; padding: 0.35rem 0.65rem; }
.log li + li { border-top: 1px solid var(--line); }
.log time { color: var(--muted); font-variant-numeric: tabular-nums; }
.log b { font-weight: 600; }
.log li[data-type="invalidate"] b { color: var(--accent); }
.log li[data-type="ready"] b { color: var(--ok); }
.log li[data-type="reset"] b { color: var(--danger); }
.log code { overflow: hidden; color: var(--muted); text-align: right; text-overflow: ellipsis; white-space: nowrap; }
.log .detail { grid-column: 1 / -1; color: var(--muted); overflow-wrap: anywhere; }
@media (forced-colors: active) { .track, .stream b::before, .key > *::before { forced-color-adjust: none; } }
`;

function dark(host: string): string {
  return `${host} {
  --ground: #0f1518; --surface: #161f23; --sunken: #0b1113; --line: #27343a;
  --text: #e5eef1; --muted: #93a6ae; --accent: #4cc2d6; --danger: #ff8a80;
  --ok: #4fd1a1; --warn: #f2b24c; --told: #f2b24c;
  color-scheme: dark;
}`;
}
