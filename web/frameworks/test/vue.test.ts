// @vitest-environment happy-dom
import { QueryClient, useQuery, VueQueryPlugin } from "@tanstack/vue-query";
import { createApp, defineComponent, h } from "vue";
import { behaves } from "./scenario.js";

behaves({
  newClient: () => new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: Infinity } } }),
  mount(client, options, show) {
    const app = createApp(
      defineComponent(() => {
        const { data } = useQuery(options);
        return () => {
          show(data.value);
          return h("p", data.value);
        };
      }),
    );
    app.use(VueQueryPlugin, { queryClient: client });
    app.mount(document.createElement("div"));
    let open = true;
    return {
      unmount() {
        if (open) app.unmount();
        open = false;
      },
    };
  },
});
