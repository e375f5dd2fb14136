import { describe, expect, test } from "vitest";
import { isBefore, isEarlierEpoch, laterOf, parseRevision } from "../src/revision.js";
import { rev } from "./server.js";

describe("parseRevision", () => {
  test("takes the wire form", () => {
    expect(parseRevision("00000001-000000000000002a")).toBe(rev(42));
  });

  // F35: what a proxy or an error path makes of a header counts as not told.
  test.each([
    ["nothing", null],
    ["an empty text", ""],
    ["a doubled header", "00000001-000000000000002a, 00000001-000000000000002a"],
    ["upper case", "00000001-000000000000002A"],
    ["a space", " 00000001-000000000000002a"],
    ["no epoch", "00000000-000000000000002a"],
    ["a number", 42],
    ["too short", "1-2a"],
  ])("refuses %s", (_name, text) => {
    expect(parseRevision(text)).toBeUndefined();
  });
});

test("revisions are ordered by epoch, then by position", () => {
  const ordered = [rev(9), rev(10), rev(0xffff), rev(2 ** 52), rev(1, 2), rev(5, 0xabcdef)];
  for (let i = 1; i < ordered.length; i++) {
    expect(isBefore(ordered[i - 1], ordered[i])).toBe(true);
    expect(isBefore(ordered[i], ordered[i - 1])).toBe(false);
    expect(laterOf(ordered[i], ordered[i - 1]!)).toBe(ordered[i]);
  }
  expect(isBefore(undefined, rev(1))).toBe(true);
  expect(isBefore(rev(1), undefined)).toBe(false);
  expect(isEarlierEpoch(rev(9), rev(1, 2))).toBe(true);
  expect(isEarlierEpoch(rev(1), rev(9))).toBe(false);
});
