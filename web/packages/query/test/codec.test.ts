import { create, createRegistry, equals } from "@bufbuild/protobuf";
import { FieldDescriptorProto_Label, FieldDescriptorProtoSchema, FieldOptionsSchema, timestampNow, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { dehydrate, hydrate, QueryClient } from "@tanstack/react-query";
import fc from "fast-check";
import { expect, test } from "vitest";
import { messageCodec } from "../src/connect.js";

const { serialize, deserialize } = messageCodec();

test("a query with a Timestamp survives a store", () => {
  const before = new QueryClient();
  const now = timestampNow();
  before.setQueryData(["messages"], { messages: [{ createTime: now, id: 2n ** 63n - 1n, raw: new Uint8Array([0, 255]) }] });
  const state = dehydrate(before);
  expect(() => JSON.stringify(state)).toThrow("BigInt"); // what a persister swallows
  const after = new QueryClient();
  hydrate(after, deserialize(serialize(state)) as typeof state);
  const data = after.getQueryData(["messages"]) as { messages: [{ createTime: typeof now }] };
  expect(data).toEqual(before.getQueryData(["messages"]));
  expect(equals(TimestampSchema, data.messages[0].createTime, now)).toBe(true);
});

test("with a registry, inherited defaults come back", () => {
  const field = create(FieldDescriptorProtoSchema, { options: create(FieldOptionsSchema, { packed: true }) });
  expect(field.label).toBe(FieldDescriptorProto_Label.OPTIONAL); // inherited
  const { serialize, deserialize } = messageCodec(createRegistry(FieldDescriptorProtoSchema, FieldOptionsSchema));
  const back = deserialize(serialize({ field })) as { field: typeof field };
  expect(back.field.label).toBe(FieldDescriptorProto_Label.OPTIONAL);
  expect(back.field.options!.deprecated).toBe(false);
  expect(equals(FieldDescriptorProtoSchema, back.field, field)).toBe(true);
});

test("whatever JSON has, and what it lacks, comes back as it was", () => {
  const leaf = fc.oneof(
    fc.string(),
    fc.boolean(),
    fc.constant(null),
    fc.bigInt(),
    fc.double().map((n) => (Object.is(n, -0) ? 0 : n)),
    fc.uint8Array(),
  );
  const key = fc.oneof(fc.constantFrom("$freshet", "value", "$typeName"), fc.string()).filter((k) => k !== "__proto__");
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof({ maxDepth: 3 }, leaf, fc.array(tie("tree"), { maxLength: 3 }), fc.dictionary(key, tie("tree"), { maxKeys: 3, noNullPrototype: true })),
  }));
  fc.assert(fc.property(tree, (value) => void expect(deserialize(serialize(value))).toEqual(value)), { numRuns: 2000 });
});
