import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { createConnectQueryKey, createInfiniteQueryOptions, useInfiniteQuery, useQuery } from "@connectrpc/connect-query";
import type { InfiniteData } from "@tanstack/react-query";
import { MessageSchema, type Message } from "./gen/messages/v1/messages_pb.js";
import { MessageService, type ListMessagesResponse } from "./gen/messages/v1/messages_service_pb.js";
import { useGrowing } from "./growing.js";
import { client, queries, queryClient, transport } from "./live.js";

const { listMessages, listConversations, getMessage } = MessageService.method;

/** From one size to the next as older ones are read; the server gives no more than 1,000 at once. */
const messageSizes = [50, 100, 200, 500, 1000] as const;
const conversationSizes = [200, 1000] as const;
/** What is off the screen is soon forgotten, where something else contains it. */
const passedMs = 10_000;

const paging = {
  pageParamKey: "pageToken",
  getNextPageParam: (last: { readonly nextPageToken: string }) => last.nextPageToken || undefined,
} as const;

const messagesOf = (conversation: string, pageSize = 0) => ({
  parent: `conversations/${conversation}`,
  pageSize,
  pageToken: "",
});
const keep = (pageSize: number, sizes: readonly number[]) => (pageSize > sizes[0]! ? { gcTime: passedMs } : {});

/** Plain connect-query from here on: nothing below names a topic or invalidates a key. */
export function useMessages(conversation: string) {
  return useGrowing(
    messageSizes,
    (pageSize) =>
      useInfiniteQuery(listMessages, messagesOf(conversation, pageSize), { ...paging, ...keep(pageSize, messageSizes) }),
    (pageSize) =>
      queryClient.fetchInfiniteQuery({
        ...createInfiniteQueryOptions(listMessages, messagesOf(conversation, pageSize), { ...paging, transport }),
        ...keep(pageSize, messageSizes),
      }),
  );
}

export type Messages = ReturnType<typeof useMessages>;

/** Of every size at once: it lacks one, so it is a part of each key. */
const messagesKey = (conversation: string) =>
  createConnectQueryKey({
    schema: listMessages,
    transport,
    input: messagesOf(conversation),
    cardinality: "infinite",
    pageParamKey: "pageToken",
  });

export function useConversations() {
  return useGrowing(
    conversationSizes,
    (pageSize) =>
      useInfiniteQuery(listConversations, { pageSize, pageToken: "" }, { ...paging, ...keep(pageSize, conversationSizes) }),
    (pageSize) =>
      queryClient.fetchInfiniteQuery({
        ...createInfiniteQueryOptions(listConversations, { pageSize, pageToken: "" }, { ...paging, transport }),
        ...keep(pageSize, conversationSizes),
      }),
  );
}

/** One message by itself; live as the lists are. */
export function useMessage(name: string) {
  return useQuery(
    getMessage,
    { name },
    { gcTime: passedMs },
  );
}

type MessagePages = InfiniteData<ListMessagesResponse>;

export interface Draft {
  readonly conversation: string;
  readonly author: string;
  readonly body: string;
}

/** A message on show that the server doesn't have yet. */
export const isPending = ({ name }: Message): boolean => name.startsWith("pending/");

/** Etags of this page's own messages: they need no greeting when they come back. */
export const ownEtags = new Set<string>();

let pending = 0;

/** Shows the message at once, until the list contains it by itself; takes it back when it fails. */
export async function sendMessage({ conversation, author, body }: Draft): Promise<void> {
  const parent = `conversations/${conversation}`;
  const message = create(MessageSchema, { name: `pending/${++pending}`, author, body });
  const requestId = newRequestId();
  await queries.optimistic<Message | undefined>({
    updates: [
      {
        filters: { queryKey: messagesKey(conversation) },
        update: (data: MessagePages, sent) => withFirst(data, sent ?? message),
      },
    ],
    write: ({ signal }) =>
      // With its request id a repeated write can't write twice.
      retried(requestId === "" ? 1 : 3, async () => {
        const answer = await client.createMessage({ parent, message: { author, body }, requestId }, { signal });
        if (answer.message) ownEtags.add(answer.message.etag);
        return answer.message;
      }),
  });
}

/** Unless the list has it already: an answer may be newer than its stamp says. */
function withFirst(data: MessagePages, message: Message): MessagePages {
  if (data.pages.some((page) => page.messages.some(({ name }) => name === message.name))) return data;
  return {
    ...data,
    pages: data.pages.map((page, n) => (n === 0 ? { ...page, messages: [message, ...page.messages] } : page)),
  };
}

export async function deleteMessage(conversation: string, { name, etag }: Message): Promise<void> {
  await queries.optimistic({
    updates: [
      {
        filters: { queryKey: messagesKey(conversation) },
        update: (data: MessagePages) => ({
          ...data,
          pages: data.pages.map((page) => ({ ...page, messages: page.messages.filter((m) => m.name !== name) })),
        }),
      },
    ],
    write: ({ signal }) => client.deleteMessage({ name, etag }, { signal }),
  });
}

/** Not shown before the server has it: a conflict is to be settled in the editor. */
export async function updateMessage(name: string, etag: string, body: string): Promise<void> {
  await client.updateMessage({ message: { name, body, etag }, updateMask: { paths: ["body"] } });
}

const passing = new Set([Code.Unavailable, Code.DeadlineExceeded, Code.Unknown]);

async function retried<T>(tries: number, write: () => Promise<T>): Promise<T> {
  for (let n = 1; ; n++) {
    try {
      return await write();
    } catch (error) {
      if (n >= tries || !passing.has(ConnectError.from(error).code)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 300 * n));
    }
  }
}

/** Only a secure context (https, or loopback) has randomUUID; without, no id. */
function newRequestId(): string {
  return globalThis.crypto.randomUUID?.() ?? "";
}
