"use client";

import { TransportProvider } from "@connectrpc/connect-query";
import { QueryClientProvider } from "@tanstack/react-query";
import { createContext, useState, type ReactNode } from "react";
import { live } from "./live";

type Queries = ReturnType<typeof live>["queries"];

export const QueriesContext = createContext<Queries | undefined>(undefined);

/** Made once in a browser. It is rendered on the server as well, where it follows nothing. */
export function Providers({ children }: { children: ReactNode }) {
  const [{ queryClient, queries, transport }] = useState(() => {
    const made = live("");
    if (typeof window === "undefined") made.freshet.close();
    return made;
  });
  return (
    <TransportProvider transport={transport}>
      <QueryClientProvider client={queryClient}>
        <QueriesContext value={queries}>{children}</QueriesContext>
      </QueryClientProvider>
    </TransportProvider>
  );
}
