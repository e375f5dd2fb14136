import react from "@vitejs/plugin-react";

// `npm run dev` serves the page by itself, and hands everything else to the service.
export default {
  plugins: [react()],
  server: {
    proxy: Object.fromEntries(["/events", "/tasks.v1.TaskService"].map((path) => [path, "http://127.0.0.1:8080"])),
  },
};
