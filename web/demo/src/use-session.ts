import { useSyncExternalStore } from "react";
import { session, type SessionState } from "./session.js";

const subscribe = (listener: () => void) => session?.onChange(listener) ?? (() => {});

/** Undefined: nobody signs in here. */
export function useSession(): SessionState | undefined {
  return useSyncExternalStore(subscribe, () => session?.state);
}
