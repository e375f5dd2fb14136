// @vitest-environment happy-dom
import { QueryClient, useQuery } from "@tanstack/solid-query";
import { createEffect, createRoot } from "solid-js";
import { behaves } from "./scenario.js";

behaves({
  newClient: () => new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: Infinity } } }),
  mount(client, options, show) {
    return createRoot((dispose) => {
      const query = useQuery(
        () => options,
        () => client,
      );
      createEffect(() => show(query.isSuccess ? query.data : undefined));
      return { unmount: dispose };
    });
  },
});
