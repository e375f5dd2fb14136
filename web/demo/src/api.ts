import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { Freshet } from "@freshet/query";
import { freshetInterceptor } from "@freshet/query/connect";
import { MessageService } from "./gen/messages/v1/messages_service_pb.js";

/** One stream for the whole page. */
export const freshet = new Freshet({ url: "/events" });

/** The generated client. Its reads ask at-least what the stream has told. */
export const messages = createClient(
  MessageService,
  createConnectTransport({
    baseUrl: window.location.origin,
    interceptors: [freshetInterceptor(freshet)],
  }),
);
