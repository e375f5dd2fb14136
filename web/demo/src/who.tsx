import { useState } from "react";
import { busy } from "./focus.js";
import { session } from "./session.js";
import { useSession } from "./use-session.js";

/** Who is signed in, and may what. */
export function Who() {
  const account = useSession()?.account;
  const [leaving, setLeaving] = useState(false);
  const [failed, setFailed] = useState(false);
  if (!session || !account) return null;

  const signOut = async () => {
    if (leaving) return;
    setLeaving(true);
    setFailed(false);
    try {
      await session!.signOut();
    } catch {
      setFailed(true);
      setLeaving(false);
    }
  };

  return (
    <section className="who" aria-label="Account">
      <p>
        Signed in as <b>{account.name}</b>. <span className="may">{account.may}</span>
      </p>
      {failed && (
        <p className="notice" role="alert">
          The server can’t be reached: still signed in.
        </p>
      )}
      <button type="button" {...busy(leaving)} onClick={() => void signOut()}>
        Sign out
      </button>
    </section>
  );
}
