import { TransportProvider } from "@connectrpc/connect-query";
import { FreshetProvider } from "@freshet/query/react";
import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { App } from "./app.js";
import { freshet, queryClient, transport } from "./live.js";
import { session } from "./session.js";
import { SignIn } from "./sign-in.js";

export function Page() {
  // Whoever signs in, or out, gets another page.
  if (session && !session.state.account) return <SignIn session={session} />;
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
