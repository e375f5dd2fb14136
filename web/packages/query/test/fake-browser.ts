import type { TabChannel, TabLocks } from "../src/tabs-options.js";

interface Request {
  readonly tab: FakeTab;
  readonly callback: () => Promise<void> | void;
  readonly resolve: (value?: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** Web Locks and BroadcastChannels of one origin, as several tabs see them. */
export class FakeBrowser {
  readonly held = new Map<string, Request>();
  readonly queues = new Map<string, Request[]>();
  readonly tabs = new Set<FakeTab>();

  open(): FakeTab {
    const tab = new FakeTab(this);
    this.tabs.add(tab);
    return tab;
  }

  /** Gives a free lock to the next in the queue. */
  grant(name: string): void {
    const queue = this.queues.get(name) ?? [];
    if (this.held.has(name) || queue.length === 0) return;
    const request = queue.shift()!;
    this.held.set(name, request);
    request.tab.run(async () => {
      try {
        await request.callback();
      } finally {
        if (this.held.get(name) === request) {
          this.held.delete(name);
          this.grant(name);
          request.resolve();
        }
      }
    });
  }
}

/** A tab: closes, crashes, hangs and comes back. */
export class FakeTab {
  readonly #browser: FakeBrowser;
  readonly #channels = new Map<string, Set<TabChannel & { open: boolean }>>();
  #waiting: (() => void)[] | undefined; // while it hangs
  #dead = false;

  constructor(browser: FakeBrowser) {
    this.#browser = browser;
  }

  /** Runs a task of this tab: later, after a hang; never, after a crash. */
  run(task: () => unknown): void {
    setTimeout(() => {
      if (this.#dead) return;
      if (this.#waiting) this.#waiting.push(task);
      else task();
    });
  }

  readonly locks: TabLocks = {
    request: (name, options, callback) =>
      new Promise((resolve, reject) => {
        const { held, queues } = this.#browser;
        const aborted = () => new DOMException("aborted", "AbortError");
        if (options.signal?.aborted) return reject(aborted());
        const request: Request = { tab: this, callback, resolve, reject };
        const queue = queues.get(name) ?? [];
        queues.set(name, queue);
        if (options.steal) {
          const holder = held.get(name);
          held.delete(name);
          holder?.tab.run(() => holder.reject(new DOMException("stolen", "AbortError")));
          queue.unshift(request);
        } else {
          queue.push(request);
        }
        options.signal?.addEventListener("abort", () => {
          const waiting = queues.get(name)!;
          const i = waiting.indexOf(request);
          if (i < 0) return; // granted: a signal takes nothing back
          waiting.splice(i, 1);
          reject(aborted());
        });
        this.#browser.grant(name);
      }),
  };

  readonly openChannel = (name: string): TabChannel => {
    const channel = {
      open: true,
      onmessage: null as TabChannel["onmessage"],
      postMessage: (message: unknown) => {
        if (!channel.open) throw new DOMException("closed", "InvalidStateError");
        const data: unknown = structuredClone(message);
        const send = () => {
          for (const tab of this.#browser.tabs) tab.#deliver(name, channel, data);
        };
        if (this.#dead) return;
        if (this.#waiting) this.#waiting.push(send);
        else send();
      },
      close: () => {
        channel.open = false;
      },
    };
    const set = this.#channels.get(name) ?? new Set();
    this.#channels.set(name, set.add(channel));
    return channel;
  };

  #deliver(name: string, from: TabChannel, data: unknown): void {
    for (const channel of this.#channels.get(name) ?? []) {
      if (channel !== from) this.run(() => channel.open && channel.onmessage?.({ data }));
    }
  }

  /** What it says and hears waits, and so does the loss of its lock. */
  hang(): void {
    this.#waiting ??= [];
  }

  resume(): void {
    const waiting = this.#waiting ?? [];
    this.#waiting = undefined;
    for (const task of waiting) task();
  }

  /** Loses messages on the way to this tab, as no browser should. */
  async deafen(during: () => Promise<void>): Promise<void> {
    const kept = new Map(this.#channels);
    this.#channels.clear();
    try {
      await during();
    } finally {
      for (const [name, set] of kept) this.#channels.set(name, set);
    }
  }

  /** Gone without a word; the browser frees what it held. */
  crash(): void {
    this.#dead = true;
    const { tabs, held, queues } = this.#browser;
    tabs.delete(this);
    for (const [name, queue] of queues) {
      queues.set(name, queue.filter((request) => request.tab !== this));
    }
    const freed = [...held.keys()].filter((name) => held.get(name)!.tab === this);
    for (const name of freed) {
      held.delete(name);
      this.#browser.grant(name);
    }
  }
}
