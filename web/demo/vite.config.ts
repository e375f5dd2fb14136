import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";
import { precompress } from "./precompress.js";

// `npm run dev -w @freshet/demo` beside a running `freshet serve`.
const server = "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [react(), precompress()],
  build: {
    // Embedded by the Go package web. Vite empties it.
    outDir: "../embed/app",
    emptyOutDir: true,
    // The page's policy allows no data: scripts, and one place for its files.
    assetsInlineLimit: 0,
    target: "es2022",
  },
  server: {
    proxy: {
      "/events": server,
      "/messages.v1.MessageService": server,
    },
  },
});
