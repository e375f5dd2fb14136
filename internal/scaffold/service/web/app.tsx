import { TransportProvider, useMutation, useQuery } from "@connectrpc/connect-query";
import { createConnectTransport } from "@connectrpc/connect-web";
import { bindQueries, Freshet, freshetTransport, topicsOfServices } from "@freshet/query/connect-query";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { createRoot } from "react-dom/client";
import { TaskService } from "./gen/tasks/v1/tasks_pb.js";

// Once, outside of components, before the first query. All queries of TaskService are
// live then: nothing is invalidated by hand, and no answer is written into the cache.
const freshet = new Freshet({ url: "/events" });
const queryClient = new QueryClient({ defaultOptions: { queries: { staleTime: Infinity } } });
bindQueries({ freshet, queryClient, topicsOf: topicsOfServices(TaskService) });
const transport = freshetTransport(freshet, createConnectTransport({ baseUrl: "/" }));

const parent = "projects/7";

function Tasks() {
  const { data, error } = useQuery(TaskService.method.listTasks, { parent });
  const create = useMutation(TaskService.method.createTask);
  const update = useMutation(TaskService.method.updateTask);
  const [title, setTitle] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    create.mutate({ parent, task: { title } }, { onSuccess: () => setTitle("") });
  };
  const failed = error ?? create.error ?? update.error;
  return (
    <main>
      <h1>Tasks</h1>
      <ul>
        {data?.tasks.map((task) => (
          <li key={task.name}>
            <label>
              <input
                type="checkbox"
                checked={task.done}
                onChange={() => update.mutate({ task: { ...task, done: !task.done } })}
              />{" "}
              {task.title}
            </label>
          </li>
        ))}
      </ul>
      <form onSubmit={submit}>
        <input aria-label="New task" value={title} onChange={(event) => setTitle(event.target.value)} required />{" "}
        <button disabled={create.isPending}>Add</button>
      </form>
      {failed && <p role="alert">{failed.message}</p>}
    </main>
  );
}

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <TransportProvider transport={transport}>
      <QueryClientProvider client={queryClient}>
        <Tasks />
      </QueryClientProvider>
    </TransportProvider>,
  );
}
