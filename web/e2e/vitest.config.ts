import { defineConfig } from "vitest/config";

export default defineConfig({
  root: import.meta.dirname,
  test: {
    // That of Next.js is built by `make next`, which says where.
    include: process.env["FRESHET_NEXT"] ? ["next/*.test.ts"] : ["*.test.ts"],
    // Never reached but by a failure: a machine that does ten things at once is slow.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    fileParallelism: false,
  },
});
