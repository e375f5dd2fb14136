// The page of devtools.test.ts: a live query, and a panel as the address says.
import { createConnectTransport } from "@connectrpc/connect-web";
import { createQueryOptions } from "@connectrpc/connect-query";
import { Devtools, devtoolsPlugin, mountPanel } from "@freshet/devtools";
import { FreshetPanel, reactPlugin } from "@freshet/devtools/react";
import { bindQueries, Freshet, freshetTransport, topicsOfServices } from "@freshet/query/connect-query";
import { TanStackDevtoolsCore } from "@tanstack/devtools";
import { TanStackDevtools } from "@tanstack/react-devtools";
import { QueryClient, QueryObserver } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { MessageService } from "../../demo/src/gen/messages/v1/messages_service_pb.js";

const queryClient = new QueryClient({ defaultOptions: { queries: { staleTime: Infinity } } });
const freshet = new Freshet({ url: "/events", tabs: false });
const queries = bindQueries({ freshet, queryClient, topicsOf: topicsOfServices(MessageService) });
const devtools = new Devtools({ freshet, queries });
const transport = freshetTransport(freshet, createConnectTransport({ baseUrl: "/", fetch: devtools.fetch }));
const options = createQueryOptions(MessageService.method.listMessages, { parent: "conversations/devtools" }, { transport });
new QueryObserver(queryClient, options as never).subscribe(() => {});

const root = document.getElementById("root")!;
const how = location.hash.slice(1);
if (how === "alone") {
  const panel = mountPanel(root, devtools);
  Object.assign(window, { unmount: () => panel.unmount() });
} else if (how === "component") {
  createRoot(root).render(
    <StrictMode>
      <FreshetPanel devtools={devtools} />
    </StrictMode>,
  );
} else if (how === "react") {
  createRoot(root).render(<TanStackDevtools plugins={[reactPlugin(devtools)]} config={{ defaultOpen: true }} />);
} else {
  new TanStackDevtoolsCore({ plugins: [devtoolsPlugin(devtools)], config: { defaultOpen: true } }).mount(root);
}
