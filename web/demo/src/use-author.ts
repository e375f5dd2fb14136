import { useUi } from "./ui-store.js";
import { useSession } from "./use-session.js";

/** Whose name goes with what is written: of whoever is signed in it is no matter of choice. */
export function useAuthor(): string {
  const chosen = useUi((ui) => ui.author);
  return useSession()?.account?.name ?? chosen;
}
