import { expect, test } from "vitest";
import { concerns, parseCause } from "../src/cause.js";
import { nameOf } from "../src/queries.js";

test.each([
  [null, undefined],
  ["", undefined],
  ["topic=\"messages\"", undefined],
  [
    'change=update, topic="messages", table="public.Order%20Items", rows=3, revision="6b096140-000000000194aff0", xid=812, time="2026-11-27T10:54:00.123Z"',
    { text: "update of 3 rows of public.Order Items", topic: "messages", revision: "6b096140-000000000194aff0", at: Date.UTC(2026, 10, 27, 10, 54, 0, 123) },
  ],
  ["change=insert,table=\"messages\",rows=1", { text: "insert of messages" }],
  ["change=too_many, later=?1, more=(1 2)", { text: "too many" }],
  ['change=insert, table="100%"', { text: "insert of 100%" }],
  ['change=insert, table="a\\"b"', { text: 'insert of a"b' }],
])("a cause in words: %s", (header, cause) => {
  expect(parseCause(header)).toEqual(cause);
});

test.each([
  ['change=insert, topic="a/7"', ["b", "a/7"], true],
  ['change=insert, topic="a%20/7"', ["a /7"], true],
  ['change=insert, topic="a/7"', ["a/8"], false],
  ['change=truncate, pattern="a/*/b"', ["a/7/b"], true],
  ['change=truncate, pattern="a/*/b"', ["a/7/8/b", "a/7"], false],
  ['change=truncate, pattern="a.b/*"', ["axb/7"], false],
  ['change=began, pattern="**"', ["a/7"], true],
  ["change=unknown", ["a/7"], false],
])("a cause concerns a query: %s %j", (header, topics, is) => {
  expect(concerns(parseCause(header)!, topics)).toBe(is);
});

test.each([
  [["connect-query", { methodName: "ListMessages", input: { $typeName: "x", parent: "conversations/7", pageSize: 0, after: [3n] } }], ["ListMessages", "parent: conversations/7, after: [\"3\"]"]],
  [["connect-query", { methodName: "ListAll" }], ["ListAll", ""]],
  [["tasks", 7, { open: true }], ['tasks / 7 / {"open":true}', undefined]],
  [["tasks", undefined], ["tasks / undefined", undefined]],
])("a query's name: %#", (key, name) => {
  expect(nameOf(key)).toEqual(name);
});
