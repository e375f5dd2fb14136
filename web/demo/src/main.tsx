import { FreshetProvider } from "@freshet/query/react";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { freshet } from "./api.js";
import { App } from "./app.js";
import "./styles.css";

const queryClient = new QueryClient({
  // The stream says when data is stale; time does not.
  defaultOptions: { queries: { staleTime: Infinity, refetchOnWindowFocus: false } },
});

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <FreshetProvider client={freshet}>
      <QueryClientProvider client={queryClient}>
        <App />
      </QueryClientProvider>
    </FreshetProvider>
  </StrictMode>,
);
