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
//	TEST_STORM_SEED=N        the same calls again; the seed is printed at the start and with a failure
//	TEST_STORM_OPS=5000      so many calls on each row
//
// A storm of one caller, in which deaths come at counted changes of its calls, is the same when its seed is, but for what a driver does
// behind its answers (a snapshot that it resumes after a start); a digest of the answers is printed. Of callers at once each makes the
// same calls again. Each day has the same storms, without those whose outcome is chance; TEST_CRASH_POINTS=all has long ones of a new
// seed, and all of them at once.
package storm
