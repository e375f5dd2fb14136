import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";

/** `freshet serve` as users start it: private Postgres, data of its own. */
export class Program {
  readonly url: string;
  /** Where its metrics are. */
  readonly adminUrl: string;
  readonly #port: number;
  readonly #adminPort: number;
  readonly #folder = mkdtempSync(join(tmpdir(), "freshet-e2e-"));
  #process: ChildProcess | undefined;
  #log = "";

  readonly #flags: readonly string[];

  private constructor(port: number, adminPort: number, flags: readonly string[]) {
    this.#flags = flags;
    this.#port = port;
    this.#adminPort = adminPort;
    this.url = `http://127.0.0.1:${port}`;
    this.adminUrl = `http://127.0.0.1:${adminPort}`;
  }

  static async start(...flags: string[]): Promise<Program> {
    const program = new Program(await freePort(), await freePort(), flags);
    await program.start();
    return program;
  }

  /** Starts it on the port and the data that it had. */
  async start(): Promise<void> {
    const flags = [
      `--addr=127.0.0.1:${this.#port}`,
      `--admin-addr=127.0.0.1:${this.#adminPort}`,
      `--data-dir=${this.data}`,
      ...this.#flags,
    ];
    const child = spawn(process.env["FRESHET_BIN"]!, ["serve", "--drain=1s", ...flags], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#process = child;
    await new Promise<void>((resolve, reject) => {
      const ended = () => reject(new Error(`freshet serve ended:\n${this.#log}`));
      const deadline = setTimeout(
        () => reject(new Error(`freshet serve is not ready:\n${this.#log}`)),
        50_000,
      );
      const read = (chunk: Buffer) => {
        this.#log += chunk.toString();
        if (!/msg=ready url=/.test(chunk.toString())) return;
        clearTimeout(deadline);
        child.off("exit", ended);
        resolve();
      };
      child.stdout.on("data", read);
      child.stderr.on("data", read);
      child.once("exit", ended);
    });
    child.once("exit", (code, signal) => {
      // Every test after this fails for no reason of its own.
      if (this.#process === child) console.error(`freshet serve ended (${code ?? signal}):\n${this.#log}`);
    });
  }

  /** Ends it by the signal and waits for its end. */
  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await ended;
  }

  async close(): Promise<void> {
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Runs SQL in the private database, behind the API's back. */
  async sql(text: string, ...values: string[]): Promise<void> {
    const pid = readFileSync(join(this.data, "postgres/postmaster.pid"), "utf8").split("\n");
    const client = postgres({
      path: join(pid[4]!, `.s.PGSQL.${pid[3]}`),
      user: "postgres",
      database: "freshet",
      max: 1,
      connection: { application_name: "e2e" },
    });
    try {
      await client.unsafe(text, values);
    } finally {
      await client.end();
    }
  }

  get data(): string {
    return join(this.#folder, "data");
  }
}

/**
 * A port that nobody listens on, below those that the kernel gives to whoever connects:
 * one of theirs may be taken before the program listens.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!free) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}
