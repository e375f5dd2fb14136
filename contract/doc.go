// Package contract compiles the protobuf options of freshet.v1 into an
// immutable [Program]: which topics a committed row changes, which topics a
// read depends on, and which topics a mutation may change.
//
// It is a part of three guarantees. G2 (nothing lost) needs a row to emit the
// very topics that clients subscribe to, so the escapes are one function for
// rows and requests, and a topic that a row can't spell is told as the floor of
// its template. G6 (honest stamps) needs a read to name all it depends on: a
// read whose topics no source emits is refused. G8 (nothing leaks) rests on
// escapes being injective: two values never share a topic.
//
// # Templates
//
// A topic template is a path of segments, parted by slashes:
//
//	conversations/{conversation}/messages   {f} fills one segment
//	{parent=**}/messages                    {f=**} fills one segment or more: a resource path
//	conversations/-/messages                literals stand for themselves
//
// {f} escapes every byte but the unreserved ones of RFC 3986, section 2.3, as
// %XX in upper case; the value "-" alone becomes %2D, so that no row is
// mistaken for the wildcard of AIP-159. {f=**} takes a resource name of AIP-122, of
// raw ids, and escapes each segment in the same way, but that a segment "-" is that
// wildcard: so a request that names projects/a b spells what the row 'a b' spells by
// projects/{project}. A path with an empty segment has no topic: it is a
// [RequestError]. NULL or empty drops the topic. A field fills its whole segment: with two in one
// segment, two pairs of values could share a topic.
//
// Values have one text on both sides: Postgres' text output for text, uuid,
// integers, dates (ISO) and enums (their label), and true and false for bool
// (Postgres writes t and f). A field with presence that is unset is NULL; one
// without presence always has a value, so that 0 is "0", but the empty string
// still drops the topic. A repeated field gives one topic per element, several
// give every combination.
//
// # Errors
//
// Three kinds, after protovalidate: [Compile], [CompileMethod] and [Lint] return
// a [Problem] for a declaration that is wrong; [Source.Bind] a [TypeError] for a
// table that does not fit; [Method.Topics] a [RequestError] for a request whose
// topics can't be spelled (the caller's fault: invalid_argument).
//
// # What it does not promise
//
// Nothing here speaks to Postgres: whether tables and columns exist, and
// whether the replica identity covers them, is checked by store/wal. Whether a
// handler reads only what it declares is proven by the read audit.
//
// A Program and all that it returns is safe for concurrent use and never
// changes; callers must not write to returned slices.
package contract
