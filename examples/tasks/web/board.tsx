// A fragment of a page: a board that is live by plain connect-query.
import { TransportProvider, useMutation, useQuery } from "@connectrpc/connect-query";
import { createConnectTransport } from "@connectrpc/connect-web";
import { Freshet } from "@freshet/query";
import { freshetTransport, topicsOfServices } from "@freshet/query/connect";
import { bindQueries } from "@freshet/query/tanstack";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { type ReactNode } from "react";
import { BoardService, TaskService } from "./gen/board/v1/board_service_pb.js";

// Once, outside of components, before the first query. A real page asks its session for the token.
const freshet = new Freshet({ url: "/events", token: async () => "acme:ada" });
const queryClient = new QueryClient({ defaultOptions: { queries: { staleTime: Infinity } } });
bindQueries({ freshet, queryClient, topicsOf: topicsOfServices(BoardService, TaskService) });
const transport = freshetTransport(freshet, createConnectTransport({ baseUrl: "/" }));

export function Live({ children }: { children: ReactNode }) {
  return (
    <TransportProvider transport={transport}>
      <QueryClientProvider client={queryClient}>{children}</QueryClientProvider>
    </TransportProvider>
  );
}

const columns = ["open", "in progress", "done"];

export function Board({ tenant, project }: { tenant: string; project: string }) {
  const { data: board } = useQuery(BoardService.method.listBoard, { tenant, project });
  const move = useMutation(BoardService.method.moveTask);
  if (!board) return <p>…</p>;
  return (
    <section>
      <h1>{board.project?.title}</h1>
      {columns.map((status) => (
        <div key={status}>
          <h2>{status}</h2>
          {board.tasks
            .filter((task) => task.status === status)
            .map((task) => (
              <article key={task.id}>
                {task.title} {task.due} ({task.comments}) {task.labels.join(", ")}
                {columns
                  .filter((other) => other !== status)
                  .map((other) => (
                    <button key={other} onClick={() => move.mutate({ tenant, project, task: task.id, status: other })}>
                      {other}
                    </button>
                  ))}
              </article>
            ))}
        </div>
      ))}
      <footer>
        {board.lastActivity} {board.stats && `${board.stats.done} done, ${board.stats.open} to go`}
      </footer>
    </section>
  );
}
