// Package setup is what a database needs so that package wal can follow it: the
// tables in the schema freshet, and what there must be of settings, rights,
// publication and replica identities; what is wrong with it, the SQL that mends it,
// and what of that can be run without anybody. It knows nothing of the stream.
//
// What it holds up:
//
//   - Check, CheckServer, CheckSources, CheckSlot, CheckNodes, CheckSyncStandby,
//     CheckWritable and Orphans look, and change nothing. Each Problem that SQL can mend has that SQL, and
//     says whose rights it needs.
//   - No moment of Apply or ApplyAll, and no statement that is printed, makes an
//     INSERT, UPDATE or DELETE of the application fail that passed before (F84,
//     F85), or holds one up for longer than a moment: see mend. A table joins the
//     publication in the transaction that gives it an identity that fits, and
//     leaves it first if it has none.
//   - Several nodes may set up one database at once.
//
// What it does not promise: that nothing changes after a look. Package wal looks
// again for as long as it runs, and puts a source that isn't right any more into
// quarantine.
//
// Functions that take a connection use it until they return, and are not for
// several goroutines at once.
package setup
