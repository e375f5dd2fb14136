import { defineConfig } from "vitest/config";
import { svelte } from "@sveltejs/vite-plugin-svelte";

export default defineConfig({
  test: {
    // A missed notice shows as a wait without end: fail before long, but not since the machine is busy.
    testTimeout: 30_000,
    projects: [
      { extends: true, test: { name: "query", include: ["packages/*/test/**/*.test.{ts,tsx}", "demo/test/*.test.tsx"] } },
      {
        extends: true,
        plugins: [svelte()],
        // Their browser builds: those for servers observe nothing.
        resolve: { conditions: ["browser", "development"] },
        test: {
          name: "frameworks",
          include: ["frameworks/test/*.test.ts"],
          server: { deps: { inline: [/solid/, /svelte/] } },
        },
      },
    ],
  },
});
