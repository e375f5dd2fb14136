export type { Cause } from "./cause.js";
export { Devtools, type DevtoolsOptions } from "./devtools.js";
export { mountPanel, type Panel, type PanelOptions, type Theme } from "./panel.js";
export type { Counts, Journey, Picture, Seen } from "./picture.js";
export { devtoolsPlugin, type Plugin } from "./plugin.js";
