import { Code, ConnectError } from "@connectrpc/connect";

/** An error in words for the person at the page; `conflict` says what to do about a change by someone else. */
export function describeError(error: unknown, conflict = ""): string {
  const { code, rawMessage } = ConnectError.from(error);
  switch (code) {
    case Code.Aborted:
      return `Someone else changed this message meanwhile. ${conflict}`.trim();
    case Code.NotFound:
      return "This message is gone: someone else deleted it.";
    case Code.Unavailable:
    case Code.DeadlineExceeded:
      return "The server can't answer just now.";
    case Code.Unknown:
      return "The server can't be reached.";
    default:
      return rawMessage;
  }
}
