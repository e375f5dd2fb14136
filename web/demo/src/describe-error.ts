import { Code, ConnectError } from "@connectrpc/connect";

/** An error in words for the person at the page. */
export function describeError(error: unknown): string {
  const { code, rawMessage } = ConnectError.from(error);
  switch (code) {
    case Code.Aborted:
      return "Someone else changed this message meanwhile. Cancel to see their text.";
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
