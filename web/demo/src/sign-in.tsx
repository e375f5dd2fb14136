import { useState } from "react";
import { busy } from "./focus.js";
import { takeEnded, type Session } from "./session.js";
import { useSession } from "./use-session.js";

const ended = takeEnded();

/** Who is it? There are no passwords: it is a demonstration, on one's own machine. */
export function SignIn({ session }: { session: Session }) {
  const { accounts, failed } = useSession() ?? session.state;
  const [signing, setSigning] = useState("");
  const [refused, setRefused] = useState(false);

  const signIn = async (account: string) => {
    if (signing) return;
    setSigning(account);
    setRefused(false);
    try {
      await session.signIn(account);
    } catch {
      setRefused(true);
      setSigning("");
    }
  };

  return (
    <main className="sign-in">
      <div className="sign-in-card">
        <p className="brand">
          <img src="/favicon.svg" alt="" width="26" height="26" />
          <span>Freshet</span>
        </p>
        <h1>Sign in</h1>
        <p className="hint" role="status">
          {ended && "Your session has ended. "}
          Three accounts to try, without passwords. What each may is in the grants file.
        </p>
        {(failed || refused) && (
          <p className="notice" role="alert">
            The server can’t be reached just now.{" "}
            {failed && (
              <button type="button" className="link" onClick={() => void session.open()}>
                Try again
              </button>
            )}
          </p>
        )}
        <ul className="accounts">
          {accounts.map(({ account, name, may }) => (
            <li key={account}>
              <button type="button" {...busy(signing !== "")} onClick={() => void signIn(account)}>
                <b>{signing === account ? "Signing in…" : `Sign in as ${name}`}</b>
                <span>{may}</span>
              </button>
            </li>
          ))}
        </ul>
      </div>
    </main>
  );
}
