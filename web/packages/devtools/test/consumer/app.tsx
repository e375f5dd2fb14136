// As the README says.
import { Devtools, devtoolsPlugin, mountPanel } from "@freshet/devtools";
import { FreshetPanel, reactPlugin } from "@freshet/devtools/react";
import { Freshet } from "@freshet/query";
import { bindQueries } from "@freshet/query/tanstack";
import { QueryClient } from "@tanstack/query-core";

const freshet = new Freshet({ url: "/events" });
const queries = bindQueries({ freshet, queryClient: new QueryClient() });
const devtools = new Devtools({ freshet, queries });

mountPanel(document.body, devtools, { theme: "dark" }).unmount();
export const plugins = [devtoolsPlugin(devtools)];
export const reactPlugins = [reactPlugin(devtools)];
export const panel = <FreshetPanel devtools={devtools} className="panel" />;
