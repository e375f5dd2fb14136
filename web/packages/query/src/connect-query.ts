// All that a page of connect-query takes, by one import.
export { Freshet, type FreshetOptions } from "./client.js";
export { freshetTransport, topicsOfServices } from "./connect.js";
export { bindQueries, type Queries } from "./tanstack.js";
