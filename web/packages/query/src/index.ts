export { Freshet } from "./client.js";
export type { Freshness, FreshetOptions, State, Status, SubscribeOptions } from "./client.js";
export {
  AccountChangedError,
  StreamEndedError,
  StreamLostError,
  StreamProtocolError,
  StreamRefusedError,
  StreamSilentError,
  TokenSourceError,
} from "./errors.js";
export type { StreamError } from "./errors.js";
export { freshetFetch } from "./fetch.js";
export type { Frame } from "./frame.js";
export type { Cause, Invalidation } from "./ledger.js";
export type { Logger } from "./logger.js";
export { parseRevision } from "./revision.js";
export type { Revision } from "./revision.js";
export type { Subscription } from "./subscription.js";
export type { TabChannel, TabLocks, TabsOptions } from "./tabs-options.js";
export type { Token, TokenSource } from "./tokens.js";
