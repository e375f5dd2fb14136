import { Code, ConnectError } from "@connectrpc/connect";

/** An error in words for the person at the page; `conflict` says what to do about a change by someone else. */
export function describeError(error: unknown, conflict = ""): string {
  const { code, rawMessage } = ConnectError.from(error);
  switch (code) {
    case Code.Aborted:
      return `Someone else changed this message meanwhile. ${conflict}`.trim();
    case Code.NotFound:
      return "This message is gone: someone else deleted it.";
    case Code.PermissionDenied:
      return "Your account may not do this here.";
    case Code.Unauthenticated:
      return "You are signed out.";
    case Code.Unavailable:
    case Code.DeadlineExceeded:
      return "The server can't answer just now.";
    case Code.Unknown:
      return "The server can't be reached.";
    default:
      return rawMessage;
  }
}

/** A refusal that is as it should be: nothing is wrong, and trying again is of no use. */
export function isDenied(error: unknown): boolean {
  return error != null && ConnectError.from(error).code === Code.PermissionDenied;
}
