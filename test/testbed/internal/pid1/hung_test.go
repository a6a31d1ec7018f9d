package pid1

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestSleepersKeepTheirTimeWhileTheySleepOn(t *testing.T) {
	proc := t.TempDir()
	task := func(id, state, switches string) string {
		folder := filepath.Join(proc, id, "task", id)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		status := "Name:\tmount\nState:\t" + state + "\nvoluntary_ctxt_switches:\t" + switches + "\n"
		if err := os.WriteFile(filepath.Join(folder, "status"), []byte(status), 0o600); err != nil {
			t.Fatal(err)
		}
		return folder
	}
	asleep := task("10", "D (disk sleep)", "5")
	busy := task("11", "D (disk sleep)", "5")
	task("12", "S (sleeping)", "5")
	start := time.Unix(1000, 0)
	first := sleepers(proc, nil, start)
	if got := slices.Sorted(maps.Keys(first)); !slices.Equal(got, []string{asleep, busy}) {
		t.Fatalf("blocked: %q, want %q and %q", got, asleep, busy)
	}
	task("11", "D (disk sleep)", "6") // it has run in between
	later := start.Add(time.Minute)
	second := sleepers(proc, first, later)
	if got := second[asleep]; got.since != start || got.name != "mount" {
		t.Errorf("a task that sleeps on: %+v, want since %s", got, start)
	}
	if got := second[busy].since; got != later {
		t.Errorf("a task that ran in between is blocked since %s, want %s", got, later)
	}
}
