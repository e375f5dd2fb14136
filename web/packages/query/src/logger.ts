/** Where the library says what it does. It never logs data, tokens or headers. */
export type Logger = (
  level: "debug" | "info" | "warn" | "error",
  message: string,
  details?: Readonly<Record<string, unknown>>,
) => void;

/** @internal */
export const silent: Logger = () => {};
