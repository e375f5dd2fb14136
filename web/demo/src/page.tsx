import { TransportProvider } from "@connectrpc/connect-query";
import { FreshetProvider } from "@freshet/query/react";
import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { App } from "./app.js";
import { freshet, queryClient, transport } from "./live.js";

export function Page() {
  return (
    <StrictMode>
      <FreshetProvider client={freshet}>
        <TransportProvider transport={transport}>
          <QueryClientProvider client={queryClient}>
            <App />
          </QueryClientProvider>
        </TransportProvider>
      </FreshetProvider>
    </StrictMode>
  );
}
