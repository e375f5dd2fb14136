import { expect, test } from "vitest";
import { Registry } from "../src/registry.js";
import { rev } from "./server.js";

test("a topic is followed from where its oldest data stands", () => {
  const registry = new Registry<string>(() => {});
  for (const [query, n] of [["a", 12], ["b", 11], ["c", 13]] as const) {
    const entry = registry.add(query);
    registry.on(entry, { type: "written", stamp: rev(n) });
    registry.setTopics(entry, ["messages"]);
  }
  expect(registry.subscribe("messages")).toBe(rev(11));

  const unknown = registry.add("d");
  registry.on(unknown, { type: "written" });
  registry.setTopics(unknown, ["messages"]);
  expect(registry.subscribe("messages")).toBeUndefined(); // begins with ready
  registry.remove(unknown);
  expect(registry.subscribe("messages")).toBe(rev(11));
});

test("what a mutation wrote over data whose topics have told nothing yet is read when it is over", () => {
  const fetched: string[] = [];
  const registry = new Registry<string>(({ query }, { fetch }) => fetch && fetched.push(query));
  const entry = registry.add("a");
  registry.on(entry, { type: "watch" });
  registry.on(entry, { type: "written", stamp: rev(11) }); // out of a store
  registry.setTopics(entry, ["messages"]);
  registry.subscribe("messages");
  const [mutation, other] = [{}, {}];
  entry.mutations = new Set([mutation, other]);
  registry.written(entry, undefined, { patch: true });
  registry.mutated(mutation);
  expect(fetched).toEqual([]);
  registry.mutated(other);
  expect(fetched).toContain("a");
  expect(entry.rule.fresh).toBe(false);
});
