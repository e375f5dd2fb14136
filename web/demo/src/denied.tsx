import { useSession } from "./use-session.js";

/** Nothing is wrong: it is somebody else's. Whether there is anything, nobody here is told. */
export function Denied({ conversation, onRetry }: { conversation: string; onRetry: () => void }) {
  const account = useSession()?.account;
  return (
    <div className="empty" role="status">
      <p>#{conversation} isn’t yours to see.</p>
      <p className="hint">
        {account ? `${account.name}’s account has no grant for it.` : "There is no grant for it."} Once there is one,{" "}
        <button type="button" className="link" onClick={onRetry}>
          look again
        </button>
        .
      </p>
    </div>
  );
}
