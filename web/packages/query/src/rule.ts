import { epochOf, floorOf, isBefore, isEarlierEpoch, laterOf, type Revision } from "./revision.js";
import type { Flight, Input, Inputs, Kind, Phase, Step, Verdict } from "./rule-types.js";

export type { Flight, Input, Inputs, Kind, Phase, Step, Verdict } from "./rule-types.js";

type Cell<K extends Kind> = (rule: Rule, input: Inputs[K]) => Step;
type Table = { readonly [P in Phase]: { readonly [K in Kind]: Cell<K> } };

const none: Step = {};
const fetchNow: Step = { fetch: true };
const mark: Step = { mark: true };
const ignore = (): Step => none;

export const firstPauseMs = 250;
export const longestPauseMs = 30_000;
/** Spread of what every client does at once. */
export const jitterMs = 1000;

/**
 * Decides, for one query, when to fetch and which answer to let through: the
 * client rule of docs/protocol.md. No I/O, no clock, no random numbers.
 *
 * It upholds, for every order of inputs: no answer is replaced by an older one,
 * nor by one of an earlier epoch (G4); when it rests and is watched, what is
 * held is as fresh as anything heard, else fetches follow until it is (G3).
 */
export class Rule {
  phase: Phase = "resting";
  /** The highest revision that the data has to reach. */
  need: Revision | undefined;
  /** Up to here the data held is complete; undefined: unknown. */
  have: Revision | undefined;
  /** There is data, or an error that answers as data would. */
  held = false;
  watched = false;
  /** The request under way. */
  flight: Flight | undefined;
  /** Fetches in a row that didn't bring what was asked. */
  tries = 0;

  /** The data can't be compared: its stamp is unknown, or of a history that is over. */
  blind = false;
  /**
   * No answer has confirmed the data yet, since a reset to the history that it is of;
   * or at all, where only an answer says what tells of its changes.
   */
  doubted = false;
  /** `clock` when the data arrived, and when it was asked for. */
  arrived = 0;
  sent = 0;
  /** `clock` at the last reset. */
  replaced = 0;
  /** `clock` when somebody else began to call. */
  foreign = 0;
  /** The latest history that a reset went back from, by a revision of it. */
  left: Revision | undefined;
  clock = 0;
  /** Only the timer ends the pause. */
  patient = false;
  /** The next request is strong, whatever is needed. */
  strong = false;
  /** The next fetch begins with jitter. */
  calm = false;

  on(input: Input): Step {
    this.clock++;
    // The table is total by its type; that `input` fits its own cell is what
    // TypeScript can't see.
    const cell = table[this.phase][input.type] as Cell<Kind>;
    return cell(this, input as Inputs[Kind]);
  }

  /** Whether data is held that is as fresh as anything heard. */
  get fresh(): boolean {
    return this.held && !this.doubted && !isBefore(this.have, this.need);
  }

  /** The request to send for a fetch; the same as `on({type: "send"})`. */
  begin(input: Inputs["send"]): Flight {
    this.on({ type: "send", ...input });
    return this.flight!;
  }

  /**
   * Looks at an answer on its way. `again` at most once per fetch, which
   * `repeated` tells: then it is let through, if newer than what is held, so
   * that a stream of changes can't starve the reader.
   */
  judge(flight: Flight, stamp: Revision | undefined, repeated: boolean): Verdict {
    if (!keeps(this, flight, stamp)) return repeated || this.held ? "drop" : "again";
    if (repeated || flight.partial || !isBefore(stamp, this.need)) return "keep";
    // Below what was asked for is the server's fault; only what was told since
    // the request was sent makes another one worth while.
    return isBefore(flight.owed, this.need) ? "again" : "keep";
  }
}

/** Every event in every phase; a cell that is missing does not compile. */
const table: Table = {
  resting: {
    invalidate: invalidated,
    ready: (rule, { revision }) => invalidated(rule, { revision }),
    heard,
    reset,
    send,
    answer: (rule, input) => {
      written(rule, input); // of a fetch that began unseen
      return settle(rule);
    },
    dropped: settle,
    failure: ignore,
    unknown: forget,
    cancelled: ignore,
    timer: ignore,
    watch: (rule) => {
      rule.watched = true;
      return settle(rule);
    },
    unwatch: (rule) => {
      rule.watched = false;
      return none;
    },
    written: (rule, input) => {
      written(rule, input);
      return settle(rule);
    },
    poll: (rule) => {
      if (!rule.watched || !rule.held) return none;
      rule.strong = true;
      return fetchNow;
    },
    another: (rule) => {
      another(rule);
      if (rule.held && !rule.need) return rule.watched ? fetchNow : mark;
      return settle(rule);
    },
  },
  flying: {
    invalidate: note,
    ready: note,
    heard,
    reset,
    send,
    answer,
    dropped: (rule) => ended(rule, false),
    failure,
    unknown: forget,
    cancelled: (rule) => {
      land(rule);
      return rest(rule) ?? backOff(rule); // whoever called it off has a reason: not at once
    },
    timer: ignore,
    watch: (rule) => {
      rule.watched = true;
      return none;
    },
    unwatch: (rule) => {
      rule.watched = false;
      return none;
    },
    written: (rule, input) => {
      written(rule, input);
      return none;
    },
    poll: ignore,
    another,
  },
  pausing: {
    invalidate: note,
    ready: note,
    heard,
    reset,
    send,
    answer: written,
    dropped: ignore,
    failure: ignore,
    unknown: forget,
    cancelled: ignore,
    timer: settle,
    watch: ignore,
    unwatch: (rule) => {
      rule.watched = false;
      return settle(rule);
    },
    written: (rule, input) => {
      written(rule, input);
      return none;
    },
    poll: ignore,
    another,
  },
};

/** Whether a revision is of a history that is over: an earlier one. */
function isOver(rule: Rule, revision: Revision): boolean {
  return isEarlierEpoch(revision, rule.need) || isEarlierEpoch(revision, rule.have);
}

/**
 * Whether a reset went back from the history that an answer is of (F77): a node
 * that doesn't know yet gave it. Only the stream can lead there again.
 */
function wasLeft({ left, need, have }: Rule, stamp: Revision): boolean {
  const current = need ?? have;
  return left !== undefined && !isEarlierEpoch(left, stamp) && isEarlierEpoch(current ?? stamp, stamp);
}

/** Whether a revision is of a history that this query has not heard of. */
function isNewer({ need, have }: Rule, revision: Revision): boolean {
  const known = need && have ? laterOf(have, need) : (need ?? have);
  return known !== undefined && isEarlierEpoch(known, revision);
}

/** Raises need; of a lower epoch, whatever the position, it is lower. */
function note(rule: Rule, { revision }: { readonly revision: Revision }): Step {
  // All clients are about to refetch.
  if (isNewer(rule, revision)) rule.calm = true;
  rule.need = laterOf(rule.need, revision);
  return none;
}

function invalidated(rule: Rule, { revision, spreadMs = 0 }: Inputs["invalidate"]): Step {
  note(rule, { revision });
  const owing = rule.held && rule.watched && !rule.fresh;
  if (owing && spreadMs > 0 && !rule.calm) return pause(rule, true, 0, spreadMs);
  return settle(rule);
}

function heard(rule: Rule, { revision, retry }: Inputs["heard"]): Step {
  if (isOver(rule, revision)) return none;
  if (isNewer(rule, revision)) return rule.phase === "resting" ? invalidated(rule, { revision }) : note(rule, { revision });
  if (rule.fresh && rule.have) rule.have = laterOf(rule.have, revision);
  return retry && rule.phase === "pausing" && !rule.patient ? settle(rule) : none;
}

/**
 * Whoever sends it has proved that the database is in this history, so it wins,
 * also if it has the lower epoch.
 */
function reset(rule: Rule, { revision }: Inputs["reset"]): Step {
  const known = rule.need && rule.have ? laterOf(rule.have, rule.need) : (rule.need ?? rule.have);
  if (known && isEarlierEpoch(revision, known)) rule.left = laterOf(rule.left, known);
  if (rule.held && !rule.blind && rule.have && epochOf(rule.have) === epochOf(revision)) {
    // An answer has led here before the stream did, and its node may be further than
    // the stream's (G4). Or the server doesn't know what we have, and will say so.
    rule.need = laterOf(revision, rule.have);
    rule.doubted = true;
  } else {
    // The data stays on show, but nothing is known of its age: it may be of a
    // history that never was.
    rule.need = revision;
    rule.have = undefined;
    rule.blind = true;
  }
  rule.replaced = rule.clock;
  rule.calm = true;
  if (rule.phase === "flying") return none;
  rule.tries = 0;
  return settle(rule);
}

/** What is held stays on show, as of nobody knows when; the next answer isn't older. */
function another(rule: Rule): Step {
  rule.foreign = rule.clock;
  if (rule.have) rule.need = laterOf(rule.need, rule.have);
  rule.have = undefined;
  rule.blind = true;
  return none;
}

function send(rule: Rule, { heard, partial = false }: Inputs["send"]): Step {
  let atLeast: Revision | undefined;
  // Without a stream nothing is known of what changed: a strong read.
  if (heard && !rule.strong) {
    atLeast = rule.held || !rule.need ? (rule.need ?? heard) : laterOf(rule.need, heard);
  }
  rule.phase = "flying";
  rule.flight = { atLeast, owed: atLeast ?? rule.need, partial, sent: rule.clock };
  return none;
}

/**
 * Whether an answer may take the place of what is held. Two answers can be
 * compared if both have stamps of one history: then the higher wins (G4), and of
 * two with the same stamp the one that was asked for later. Without a stamp on
 * either side nothing says which of two overlapping requests saw more; only one
 * that was sent after the data held had come can't have seen less; nor does any other
 * take the place of data that is in doubt. The same goes for a strong read whose stamp is lower, as another node may give it: it was sent
 * to find out how things are now. An answer of a history that is over is never
 * kept, nor one without a stamp that may be of the history before the last reset.
 */
function keeps(rule: Rule, flight: Flight, stamp: Revision | undefined): boolean {
  if (flight.sent <= rule.foreign) return false; // somebody else's
  if (stamp && (isOver(rule, stamp) || wasLeft(rule, stamp))) return false;
  if (!stamp && flight.sent <= rule.replaced) return false;
  if (!rule.held) return true;
  // A page more was added to what was held when it was asked for.
  if (flight.partial) return flight.sent > rule.arrived;
  if (!stamp || rule.blind) return flight.sent > rule.arrived;
  if (rule.doubted && flight.sent <= rule.arrived) return false;
  if (isBefore(rule.have, stamp)) return true;
  if (stamp === rule.have) return flight.sent > rule.sent;
  return flight.atLeast === undefined && flight.sent > rule.arrived;
}

function answer(rule: Rule, { flight, stamp }: Inputs["answer"]): Step {
  if (!keeps(rule, flight, stamp)) return ended(rule, false);
  if (flight.partial && rule.held) {
    // As old as its oldest page.
    rule.have = stamp && rule.have && (stamp < rule.have ? stamp : rule.have);
    rule.blind ||= !stamp;
  } else {
    rule.have = stamp && laterOf(rule.have, stamp);
    rule.blind = !stamp;
    rule.doubted &&= stamp !== undefined && stamp !== rule.have;
    rule.sent = flight.sent;
  }
  rule.held = true;
  rule.arrived = rule.clock;
  if (flight.atLeast === undefined) rule.strong = false;
  // As a reset, but for this query, which has its answer.
  if (stamp && rule.need && isEarlierEpoch(rule.need, stamp)) rule.need = stamp;
  const kept = stamp !== undefined && !isBefore(stamp, flight.owed);
  return ended(rule, kept);
}

/**
 * Data came from elsewhere, of whatever age, also an older one (F90). What was
 * asked for before may not replace it.
 */
function written(rule: Rule, { stamp, patch = false, late = false, unfollowed = false }: Inputs["written"]): Step {
  if (!rule.held || !patch) {
    rule.have = stamp;
    rule.doubted = unfollowed || (late && rule.doubted);
  }
  rule.blind = !stamp;
  rule.held = true;
  if (!late) rule.arrived = rule.clock;
  return none;
}

/**
 * To ask for it again would bring the same. What there is to be had a strong
 * read says, which follows; until then nothing is known of the data held.
 */
function forget(rule: Rule, { atLeast }: Inputs["unknown"]): Step {
  if (isBefore(atLeast, rule.need)) return none; // more was told since
  rule.need = floorOf(atLeast);
  rule.have = undefined;
  rule.blind = true;
  rule.doubted = false;
  rule.strong = true;
  return none;
}

function failure(rule: Rule, { waitMs = 0, final = false }: Inputs["failure"]): Step {
  land(rule);
  const done = rest(rule);
  if (final) return done ?? (rule.held ? mark : none); // what else could be asked, others say
  if (done) return done;
  if (waitMs <= 0) return backOff(rule);
  rule.tries++;
  return pause(rule, true, waitMs, waitMs / 2);
}

/**
 * After the end of a fetch. `kept`: the server kept its word, so what is owed
 * now was heard since; else the second try begins to back off.
 */
function ended(rule: Rule, kept: boolean): Step {
  land(rule);
  const done = rest(rule);
  if (done) return done;
  if (kept) rule.tries = 0;
  else if (rule.tries > 0) return backOff(rule);
  else rule.tries++;
  return settle(rule);
}

function land(rule: Rule): void {
  rule.phase = "resting";
  rule.flight = undefined;
}

/** Rests if nothing is owed, or nobody is there to see it paid. */
function rest(rule: Rule): Step | undefined {
  if (rule.fresh) {
    rule.tries = 0;
    rule.calm = false;
  } else if (rule.watched && (rule.held || rule.need)) {
    return undefined;
  }
  rule.phase = "resting";
  return rule.held && !rule.fresh ? mark : none;
}

/** Rests, or fetches: with jitter first, if all clients are about to. */
function settle(rule: Rule): Step {
  const done = rest(rule);
  if (done) return done;
  if (rule.calm) {
    rule.calm = false;
    return pause(rule, true, 0, jitterMs);
  }
  // A first fetch is begun by whoever mounts the query, or has failed before.
  if (!rule.held && rule.phase !== "pausing") return none;
  rule.phase = "resting";
  return fetchNow;
}

function backOff(rule: Rule): Step {
  const leastMs = Math.min(firstPauseMs * 2 ** Math.min(rule.tries, 16), longestPauseMs);
  rule.tries++;
  return pause(rule, false, leastMs, leastMs / 2);
}

function pause(rule: Rule, patient: boolean, leastMs: number, spreadMs: number): Step {
  rule.phase = "pausing";
  rule.patient = patient;
  return { pause: { leastMs, spreadMs } };
}
