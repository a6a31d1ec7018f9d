package pid1

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// sleeper is a task in uninterruptible sleep.
type sleeper struct {
	name     string
	switches string // its count of voluntary context switches: unchanged while it sleeps on
	since    time.Time
}

// watchHung reports tasks that are blocked for longer than limit in the kernel log, each once, in the words
// of the kernel's own detector, which Debian's User-Mode Linux kernel is built without.
func watchHung(limit time.Duration) {
	asleep := map[string]sleeper{}
	reported := map[string]bool{}
	for now := range time.Tick(max(limit/4, time.Second)) {
		asleep = sleepers("/proc", asleep, now)
		for task, s := range asleep {
			if key := task + s.switches; now.Sub(s.since) >= limit && !reported[key] {
				reported[key] = true
				kernelLog(fmt.Sprintf("INFO: task %s:%s blocked for more than %d seconds.",
					s.name, filepath.Base(task), int(limit.Seconds())))
				_ = os.WriteFile("/proc/sysrq-trigger", []byte("w"), 0) // adds the stacks of all blocked tasks
			}
		}
	}
}

// sleepers gives the tasks below proc that are blocked now; those that were so before, and have slept on, keep
// their time. Tasks that end meanwhile are left out.
func sleepers(proc string, before map[string]sleeper, now time.Time) map[string]sleeper {
	found := map[string]sleeper{}
	tasks, _ := filepath.Glob(filepath.Join(proc, "[0-9]*/task/[0-9]*/status")) // the pattern is well formed
	for _, path := range tasks {
		status, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		fields := map[string]string{}
		for line := range strings.Lines(string(status)) {
			key, value, _ := strings.Cut(line, ":")
			fields[key] = strings.TrimSpace(value)
		}
		if !strings.HasPrefix(fields["State"], "D") {
			continue
		}
		task := filepath.Dir(path)
		s := sleeper{name: fields["Name"], switches: fields["voluntary_ctxt_switches"], since: now}
		if old, ok := before[task]; ok && old.switches == s.switches {
			s.since = old.since
		}
		found[task] = s
	}
	return found
}
