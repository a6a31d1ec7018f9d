// Package storm throws random calls of CSI at a driver whose processes are killed, and compares what it answers, lists and holds
// with a model that fits on two pages.
//
// A few callers own some volumes and snapshots each, and call in any order: rightly, wrongly, again, with other arguments, several at
// once. Meanwhile the driver dies by SIGKILL, at random moments or just before a random change of the world, and so do the tools that
// it runs. The model of a volume is the set of states that it may be in: an answer leaves those that explain it, a call without an
// answer adds those that it may have led to. Where no state explains an answer the driver is wrong. After each round the callers repeat
// what was left open, and all that the driver lists, counts and holds must be what the model says; in the end all is deleted, and
// the machine looks as before.
//
//	TEST_STORM_SEED=N        the same storm again; the seed is printed at the start and with a failure
//	TEST_STORM_CALLERS=1     one caller, and deaths at counted changes of its calls only: the same seed is the same storm, as
//	                         the digest that is printed tells
//	TEST_STORM_OPS=5000      calls on each row; default 1500 (while there is time), 20000 for TEST_CRASH_POINTS=all
package storm
