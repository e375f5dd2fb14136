/** Where the library says what it does. It never logs data, tokens or headers. */
export type Logger = (
  level: "debug" | "info" | "warn" | "error",
  message: string,
  details?: Readonly<Record<string, unknown>>,
) => void;

/** @internal What would show in no other way, and has to be heard without a logger too. */
export const onConsole: Logger = (level, message) => console[level](message);

/** @internal */
export const silent: Logger = () => {};
