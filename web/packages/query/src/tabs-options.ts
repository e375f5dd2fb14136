import type { TabChannel, TabLocks } from "./tab-group.js";

export type { TabChannel, TabLocks } from "./tab-group.js";

export interface TabsOptions {
  /**
   * Names the user: only tabs of the same session share a stream. Default: issuer
   * and subject of the `token`; "" without a token. With `headers`, which may say
   * who the user is, or a token without a subject, it is required for sharing.
   * A function is asked again after `changeAccount()`. Other tabs can read it, so
   * never the token itself.
   */
  readonly session?: string | (() => string | undefined) | undefined;
  /** How often the leading tab shows that it lives. Default 1 s. */
  readonly beatMs?: number | undefined;
  /** Tells `freeze` and `resume` of this tab. Default: `document`. */
  readonly lifecycle?: EventTarget | undefined;
  /** Default: `navigator.locks`. */
  readonly locks?: TabLocks | undefined;
  /** Default: a BroadcastChannel. */
  readonly openChannel?: ((name: string) => TabChannel) | undefined;
}

/** Whether this browser can share a stream; a page needs HTTPS or localhost. */
export function canShare(options: TabsOptions): boolean {
  if (options.locks && options.openChannel) return true;
  return (
    typeof window !== "undefined" &&
    typeof BroadcastChannel !== "undefined" &&
    typeof navigator !== "undefined" &&
    "locks" in navigator &&
    // Some pages have the interface, but no origin to share within.
    window.isSecureContext
  );
}
