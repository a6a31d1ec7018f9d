// Package logwrites proves the order of the driver's writes against lost flushes. A User-Mode Linux machine (test/testbed) keeps the pool and
// the driver's records on one file system on dm-log-writes, which notes each write with the flush that made it safe, and lives a script of
// volumes, snapshots and copies there. On this machine the log is replayed: the device as it was after each flush, and after writes
// between two flushes, is mounted, the driver started on it, and all that had been acknowledged by then must be there and whole. What
// was under way is repeated and must succeed; in the end all is deleted and nothing is left.
//
// Each day tries some of the prefixes, TEST_CRASH_POINTS=all every flush and a thousand of the writes between them.
package logwrites
