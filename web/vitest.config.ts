import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["packages/*/test/**/*.test.{ts,tsx}", "demo/test/*.test.tsx"],
    // A missed notice shows as a wait without end: fail soon.
    testTimeout: 10_000,
  },
});
