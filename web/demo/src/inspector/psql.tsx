import { useState } from "react";

export function Psql({ conversation }: { conversation: string }) {
  const [copied, setCopied] = useState(false);
  const command = `psql -h "$(sed -n 5p .freshet/postgres/postmaster.pid)" \\
  -U postgres freshet -c "insert into messages
    (conversation, author, body) values
    ('${conversation}', 'psql', 'by SQL')"`;
  // Only in a secure context (https, or loopback).
  const clipboard = navigator.clipboard as Clipboard | undefined;
  const copy = async () => {
    await clipboard?.writeText(command);
    setCopied(true);
  };
  return (
    <>
      <p className="hint">
        A row written by any SQL client shows up all the same. With the private Postgres of <code>make run</code>, from
        its folder:
      </p>
      <pre className="sql" tabIndex={0} aria-label="A command for your terminal">
        <code>{command}</code>
      </pre>
      {clipboard && (
        <button type="button" onClick={() => void copy()} onBlur={() => setCopied(false)}>
          {copied ? "Copied" : "Copy"}
        </button>
      )}
    </>
  );
}
