import { createFileRegistry, create, fromBinary, fromJson, setExtension, type DescMethod, type JsonValue } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema, MethodOptionsSchema } from "@bufbuild/protobuf/wkt";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  GetMessageRequestSchema,
  ListConversationsRequestSchema,
  ListMessagesRequestSchema,
  MessageService,
} from "../../../demo/src/gen/messages/v1/messages_service_pb.js";
import { topicsOfAnswer } from "../src/answer-topics.js";
import { reads, ReadsSchema } from "../src/gen/freshet/v1/options_pb.js";
import { CallerError, TemplateError, TopicError, topicsOf, topicsOfTemplate } from "../src/topics.js";

interface Vectors {
  escapes: { value: string; segment: string }[];
  requests: { template: string; request: JsonValue; topics?: string[]; error?: boolean }[];
  columns: { type: string; value: string; template: string; request: JsonValue; topics: string[] }[];
  responses: {
    templates: string[];
    response_templates: string[];
    request: JsonValue;
    response: JsonValue;
    topics?: string[];
    error?: boolean;
  }[];
  principals: {
    templates: string[];
    response_templates?: string[];
    request?: JsonValue;
    response?: JsonValue;
    caller?: string;
    topics?: string[];
  }[];
  malformed: { template: string }[];
}

const testdata = new URL("../../../../contract/testdata/", import.meta.url);
const vectors = JSON.parse(readFileSync(new URL("vectors.json", testdata), "utf8")) as Vectors;
const files = fromBinary(FileDescriptorSetSchema, readFileSync(new URL("vectors.binpb", testdata)));
const schema = createFileRegistry(files).getMessage("freshet.vectors.v1.Request")!;

describe("golden vectors", () => {
  test("escapes", () => {
    expect(vectors.escapes.length).toBeGreaterThan(20);
    for (const { value, segment } of vectors.escapes) {
      const request = fromJson(schema, { name: value });
      expect(topicsOfTemplate("{name}", schema, request), value).toEqual([segment]);
    }
  });

  test("requests", () => {
    expect(vectors.requests.length).toBeGreaterThan(40);
    for (const { template, request, topics, error } of vectors.requests) {
      const what = `${template} over ${JSON.stringify(request).slice(0, 200)}`;
      const run = () => topicsOfTemplate(template, schema, fromJson(schema, request));
      if (error) expect(run, what).toThrow(TopicError);
      else expect(run(), what).toEqual(topics);
    }
  });

  test("columns", () => {
    expect(vectors.columns.length).toBeGreaterThan(30);
    for (const { type, value, template, request, topics } of vectors.columns) {
      const got = topicsOfTemplate(template, schema, fromJson(schema, request));
      expect(got, `${type} ${value}`).toEqual(topics);
    }
  });

  test("responses", () => {
    expect(vectors.responses.length).toBeGreaterThan(20);
    for (const { templates, response_templates, request, response, topics, error } of vectors.responses) {
      const what = `${String(response_templates)} over ${JSON.stringify(response).slice(0, 200)}`;
      const options = create(MethodOptionsSchema);
      setExtension(options, reads, create(ReadsSchema, { topics: templates, responseTopics: response_templates }));
      const method = { input: schema, output: schema, proto: { options } } as unknown as DescMethod;
      const run = () => topicsOfAnswer(method, fromJson(schema, request), fromJson(schema, response));
      if (error) expect(run, what).toThrow(TopicError);
      else expect(run(), what).toEqual(topics);
    }
  });

  test("principals", () => {
    expect(vectors.principals.length).toBeGreaterThan(20);
    for (const { templates, response_templates = [], request = {}, response = {}, caller, topics } of vectors.principals) {
      const options = create(MethodOptionsSchema);
      setExtension(options, reads, create(ReadsSchema, { topics: templates, responseTopics: response_templates }));
      const method = { input: schema, output: schema, proto: { options } } as unknown as DescMethod;
      const told = (principal?: string) => topicsOfAnswer(method, fromJson(schema, request), fromJson(schema, response), principal);
      if (caller !== undefined) expect(told(caller), caller).toEqual(topics);
      const before = topicsOf(method, fromJson(schema, request));
      expect(before, "before there is an answer").toEqual(templates.includes("tags") ? ["tags"] : []);
      if (!caller && topics) continue;
      const wrong = [undefined, "", "org_id=", "org_id=a/b", "org_id=%zz", "org_id=-", "x=1", "org_id"];
      for (const header of wrong) expect(() => told(header), header).toThrow(CallerError);
    }
  });

  test("malformed", () => {
    expect(vectors.malformed.length).toBeGreaterThan(10);
    const request = create(schema);
    for (const { template } of vectors.malformed) {
      expect(() => topicsOfTemplate(template, schema, request), template).toThrow(TemplateError);
    }
  });
});

test("topicsOf reads the method's own option", () => {
  const { listMessages, getMessage, listConversations, createMessage } = MessageService.method;
  const parent = "conversations/7";
  expect(topicsOf(listMessages, create(ListMessagesRequestSchema, { parent }))).toEqual([
    "conversations/7/messages",
  ]);
  const name = "conversations/7/messages/01928c7e-0000-7000-8000-000000000001";
  expect(topicsOf(getMessage, create(GetMessageRequestSchema, { name }))).toEqual([name]);
  expect(topicsOf(listConversations, create(ListConversationsRequestSchema))).toEqual(["messages"]);
  expect(topicsOf(createMessage, create(createMessage.input))).toEqual([]);
});
