import { useCallback, useSyncExternalStore } from "react";

/** As the server has it. */
export const conversationPattern = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

function fromHash(): string {
  const id = decodeURIComponent(window.location.hash.slice(1));
  return conversationPattern.test(id) ? id : "general";
}

function onHash(listener: () => void): () => void {
  window.addEventListener("hashchange", listener);
  return () => window.removeEventListener("hashchange", listener);
}

/** The conversation on screen, kept in the address. */
export function useConversation(): [string, (id: string) => void] {
  const id = useSyncExternalStore(onHash, fromHash);
  const select = useCallback((next: string) => {
    window.location.hash = next;
  }, []);
  return [id, select];
}
