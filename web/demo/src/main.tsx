import { TransportProvider } from "@connectrpc/connect-query";
import { FreshetProvider } from "@freshet/query/react";
import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app.js";
import { freshet, queryClient, transport } from "./live.js";
import "./styles/base.css";
import "./styles/room.css";
import "./styles/inspector.css";
import "./styles/narrow.css";

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <FreshetProvider client={freshet}>
      <TransportProvider transport={transport}>
        <QueryClientProvider client={queryClient}>
          <App />
        </QueryClientProvider>
      </TransportProvider>
    </FreshetProvider>
  </StrictMode>,
);
