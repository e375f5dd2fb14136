import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { createConnectQueryKey, useInfiniteQuery, useQuery } from "@connectrpc/connect-query";
import type { InfiniteData } from "@tanstack/react-query";
import { ConversationSchema, MessageSchema, type Message } from "./gen/messages/v1/messages_pb.js";
import {
  MessageService,
  type ListConversationsResponse,
  type ListMessagesResponse,
} from "./gen/messages/v1/messages_service_pb.js";
import { client, queries, transport } from "./live.js";

const { listMessages, listConversations } = MessageService.method;
const pageSize = 50;
const conversationsInput = { pageSize: 200 };
const pagesOf = (conversation: string) => ({ parent: `conversations/${conversation}`, pageSize, pageToken: "" });

/** Plain connect-query from here on: nothing below names a topic or invalidates a key. */
export function useMessages(conversation: string) {
  return useInfiniteQuery(listMessages, pagesOf(conversation), {
    pageParamKey: "pageToken",
    getNextPageParam: (last) => last.nextPageToken || undefined,
  });
}

const messagesKey = (conversation: string) =>
  createConnectQueryKey({
    schema: listMessages,
    transport,
    input: pagesOf(conversation),
    cardinality: "infinite",
    pageParamKey: "pageToken",
  });

export function useConversations() {
  return useQuery(listConversations, conversationsInput);
}

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

/** Shows the message at once, until the lists contain it by themselves; takes it back when it fails. */
export async function sendMessage({ conversation, author, body }: Draft): Promise<void> {
  const parent = `conversations/${conversation}`;
  const message = create(MessageSchema, { name: `pending/${++pending}`, author, body });
  const requestId = newRequestId();
  await queries.optimistic({
    updates: [
      changeMessages(conversation, (messages, page) => (page === 0 ? [message, ...messages] : messages)),
      changeCount(conversation, 1n),
    ],
    write: ({ signal }) =>
      // With its request id a repeated write can't write twice.
      retried(requestId === "" ? 1 : 3, async () => {
        const sent = await client.createMessage({ parent, message: { author, body }, requestId }, { signal });
        if (sent.message) ownEtags.add(sent.message.etag);
      }),
  });
}

export async function deleteMessage(conversation: string, { name, etag }: Message): Promise<void> {
  await queries.optimistic({
    updates: [
      changeMessages(conversation, (messages) => messages.filter((message) => message.name !== name)),
      changeCount(conversation, -1n),
    ],
    write: ({ signal }) => client.deleteMessage({ name, etag }, { signal }),
  });
}

/** Not shown before the server has it: a conflict is to be settled in the editor. */
export async function updateMessage(name: string, etag: string, body: string): Promise<void> {
  await client.updateMessage({ message: { name, body, etag }, updateMask: { paths: ["body"] } });
}

/** `page` counts from 0, the newest: there a new message belongs. */
function changeMessages(conversation: string, change: (messages: Message[], page: number) => Message[]) {
  return {
    filters: { queryKey: messagesKey(conversation), exact: true },
    update: (data: InfiniteData<ListMessagesResponse>) => ({
      ...data,
      pages: data.pages.map((page, n) => ({ ...page, messages: change(page.messages, n) })),
    }),
  };
}

function changeCount(conversation: string, by: bigint) {
  const name = `conversations/${conversation}`;
  const queryKey = createConnectQueryKey({
    schema: listConversations,
    transport,
    input: conversationsInput,
    cardinality: "finite",
  });
  return {
    filters: { queryKey, exact: true },
    update: (data: ListConversationsResponse) => {
      const conversations = data.conversations.map((known) =>
        known.name === name ? { ...known, messageCount: known.messageCount + by } : known,
      );
      // A conversation begins with its first message.
      if (by > 0n && !conversations.some((known) => known.name === name)) {
        conversations.push(create(ConversationSchema, { name, messageCount: by }));
      }
      return { ...data, conversations };
    },
  };
}

const passing = new Set([Code.Unavailable, Code.DeadlineExceeded, Code.Unknown]);

async function retried(tries: number, write: () => Promise<void>): Promise<void> {
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
