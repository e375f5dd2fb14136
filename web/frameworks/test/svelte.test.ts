// @vitest-environment happy-dom
import { QueryClient } from "@tanstack/svelte-query";
import { mount, unmount } from "svelte";
import { behaves } from "./scenario.js";
import Task from "./Task.svelte";

behaves({
  newClient: () => new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: Infinity } } }),
  mount(client, options, show) {
    const component = mount(Task, { target: document.createElement("div"), props: { client, options, show } });
    let open = true;
    return {
      async unmount() {
        if (open) await unmount(component);
        open = false;
      },
    };
  },
});
