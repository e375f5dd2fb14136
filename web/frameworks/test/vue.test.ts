// @vitest-environment happy-dom
import { QueryClient, useQuery, VueQueryPlugin } from "@tanstack/vue-query";
import { afterEach, describe, expect, test, vi } from "vitest";
import { computed, createApp, defineComponent, h, ref } from "vue";
import { FakeSource } from "../../packages/query/test/fake-source.js";
import { rev } from "../../packages/query/test/server.js";
import { bindQueries } from "../../packages/query/src/tanstack.js";
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

// As the README has it: what `meta` says is read once, with the options.
describe("a key that changes has its own topics", () => {
  const project = ref("7");
  const queryFn = () => Promise.resolve("data");
  const topicOf = (id: unknown) => `projects/${String(id)}/tasks`;
  let close = () => {};
  afterEach(() => close());

  test.each([
    ["a function of the key", () => useQuery({ queryKey: ["tasks", project], queryFn, meta: { topics: ([, id]: readonly unknown[]) => [topicOf(id)] } })],
    ["options in a computed", () => useQuery(computed(() => ({ queryKey: ["tasks", project.value], queryFn, meta: { topics: [topicOf(project.value)] } })))],
  ])("%s", async (_, use) => {
    project.value = "7";
    const source = new FakeSource();
    source.ready(rev(10));
    const queryClient = new QueryClient();
    const queries = bindQueries({ freshet: source, queryClient });
    const app = createApp(
      defineComponent(() => {
        const { data } = use();
        return () => h("p", data.value);
      }),
    );
    close = () => {
      app.unmount();
      queries.close();
      queryClient.clear();
    };
    app.use(VueQueryPlugin, { queryClient });
    app.mount(document.createElement("div"));
    const followed = (key: string) => vi.waitFor(() => expect(queries.reportOf(["tasks", key])?.topics).toEqual([topicOf(key)]));
    await followed("7");
    project.value = "8";
    await followed("8");
  });
});
