import { create } from "zustand";

/** As the server has it. */
export const conversationPattern = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** An open editor. The draft keeps the etag it is based on: a change by someone else is a conflict. */
export interface Editing {
  readonly name: string;
  readonly etag: string;
  readonly body: string;
}

export interface Ui {
  readonly conversation: string;
  readonly author: string;
  /** What is typed and not sent, by conversation. */
  readonly drafts: Readonly<Record<string, string>>;
  /** Open editors, by the name of the message. */
  readonly edits: Readonly<Record<string, Editing>>;
  readonly inspector: boolean;
}

const authorKey = "freshet.author";

/**
 * What belongs to the person at the page: selection, drafts, open panels. What
 * belongs to the server is in the QueryClient, and nothing copies one into the
 * other: no event of the stream and no answer ever writes here (a test holds
 * it), so none can overwrite what is being typed.
 */
export const useUi = create<Ui>()(() => ({
  conversation: fromHash(),
  author: localStorage.getItem(authorKey) ?? "you",
  drafts: {},
  edits: {},
  inspector: matchMedia("(min-width: 75rem)").matches,
}));

function fromHash(): string {
  const id = window.location.hash.replace(/^#\/?/, "");
  return conversationPattern.test(id) ? id : "general";
}

window.addEventListener("hashchange", () => {
  useUi.setState({ conversation: fromHash() });
});

/** Where a link to a conversation leads. With the slash it isn't a place further down this page. */
export const addressOf = (id: string): string => `#/${id}`;

/** By the address, so that back and forward work and a link leads here. */
export function selectConversation(id: string): void {
  window.location.hash = addressOf(id);
}

export function setAuthor(author: string): void {
  localStorage.setItem(authorKey, author);
  useUi.setState({ author });
}

export function setDraft(conversation: string, body: string): void {
  useUi.setState(({ drafts }) => ({ drafts: { ...drafts, [conversation]: body } }));
}

/** A message that was not sent comes back, before what has been typed since. */
export function restoreDraft(conversation: string, body: string): void {
  const since = useUi.getState().drafts[conversation];
  setDraft(conversation, since ? `${body}\n${since}` : body);
}

/** Opens an editor, or keeps what is typed in one. */
export function edit(editing: Editing): void {
  useUi.setState(({ edits }) => ({ edits: { ...edits, [editing.name]: editing } }));
}

export function closeEditor(name: string): void {
  useUi.setState(({ edits: { [name]: _closed, ...edits } }) => ({ edits }));
}

export function showInspector(inspector: boolean): void {
  useUi.setState({ inspector });
}
