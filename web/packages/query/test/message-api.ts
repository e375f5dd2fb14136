import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createRouterTransport, type HandlerContext, type Transport } from "@connectrpc/connect";
import {
  CreateMessageResponseSchema,
  ListMessagesResponseSchema,
  MessageService,
} from "../../../demo/src/gen/messages/v1/messages_service_pb.js";
import type { Revision } from "../src/revision.js";
import { Queue } from "./server.js";

export { MessageService };
export const parent = "conversations/7";
export const topic = `${parent}/messages`;

/** A read that waits for the test to answer it. */
export class Read {
  constructor(
    readonly atLeast: string | null,
    readonly pageToken: string,
    private readonly respond: (header: Headers, body: string, nextPageToken: string) => void,
    private readonly reject: (error: ConnectError) => void,
    private readonly header: Headers,
  ) {}

  /** `stamp` goes into the header as it is; null: none. */
  answer(body: string, stamp: Revision | string | null, nextPageToken = ""): void {
    if (stamp) this.header.set("freshet-revision", stamp);
    this.respond(this.header, body, nextPageToken);
  }

  fail(code: Code, stamp?: Revision, details: { type: string; value: Uint8Array }[] = []): void {
    const error = new ConnectError("no", code, stamp && { "freshet-revision": stamp });
    error.details.push(...details);
    this.reject(error);
  }
}

/** google.rpc.ErrorInfo{reason: "EPOCH_CHANGED"}. */
export const epochChanged = (): { type: string; value: Uint8Array } => errorInfo("EPOCH_CHANGED");

export function errorInfo(text: string): { type: string; value: Uint8Array } {
  const reason = new TextEncoder().encode(text);
  return { type: "google.rpc.ErrorInfo", value: new Uint8Array([0x0a, reason.length, ...reason]) };
}

/** The message service, whose reads the test answers one by one. */
export class MessageApi {
  readonly reads = new Queue<Read>();
  writeHeaders: Record<string, string> = {};
  readonly transport: Transport = createRouterTransport(({ service }) =>
    service(MessageService, {
      listMessages: (request, context: HandlerContext) =>
        new Promise((resolve, reject) => {
          const respond = (_: Headers, body: string, nextPageToken: string) =>
            resolve(create(ListMessagesResponseSchema, { messages: [{ body }], nextPageToken }));
          const { requestHeader, responseHeader } = context;
          this.reads.push(
            new Read(requestHeader.get("freshet-at-least"), request.pageToken, respond, reject, responseHeader),
          );
        }),
      createMessage: (_request, context: HandlerContext) => {
        for (const [key, value] of Object.entries(this.writeHeaders)) context.responseHeader.set(key, value);
        return create(CreateMessageResponseSchema);
      },
    }),
  );
}

/** google.rpc.RetryInfo with a delay of so many seconds, less than 128. */
export function retryInfo(seconds: number): { type: string; value: Uint8Array } {
  return { type: "google.rpc.RetryInfo", value: new Uint8Array([0x0a, 2, 0x08, seconds]) };
}
