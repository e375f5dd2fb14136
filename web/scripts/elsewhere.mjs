// How long streams of the TypeScript client are without a node that was killed, behind a
// balancer: `make cluster` in one shell, and in another, with the client built
// (`npm run build -w packages/query`), in web:
//
//   node scripts/elsewhere.mjs http://127.0.0.1:8080 "$(pgrep -f 'freshet cluster' | head -1)" 6
import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { Freshet } from "../packages/query/dist/index.js";

const [url, cluster, rounds = "6"] = process.argv.slice(2);
const streams = Array.from({ length: 24 }, () => {
  const client = new Freshet({ url: `${url}/events` });
  const stream = { client, gone: 0, waits: [] };
  client.onStatus(() => {
    const live = client.status.state === "live";
    if (!live && stream.gone === 0) stream.gone = performance.now();
    if (live && stream.gone !== 0) {
      stream.waits.push(performance.now() - stream.gone);
      stream.gone = 0;
    }
  });
  client.subscribe({ topics: ["messages"], onInvalidate() {} });
  return stream;
});
const allLive = async () => {
  while (streams.some((s) => s.client.status.state !== "live")) await sleep(10);
};
await allLive();
for (const s of streams) s.waits = [];
for (let round = 0; round < Number(rounds); round++) {
  const nodes = execFileSync("pgrep", ["-P", cluster, "-f", "freshet serve"]).toString().trim().split("\n");
  process.kill(Number(nodes[round % nodes.length]), "SIGKILL");
  await sleep(500);
  await allLive();
  await sleep(4000); // the node is started again
}
const waits = streams.flatMap((s) => s.waits).sort((a, b) => a - b);
const ms = (wait) => `${Math.round(wait)} ms`;
console.log(`${waits.length} streams were elsewhere: p50 ${ms(waits[waits.length >> 1])}, at most ${ms(waits.at(-1))}`);
process.exit(0);
