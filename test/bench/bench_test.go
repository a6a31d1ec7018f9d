package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// tiny is the least of everything: that it works, not how fast.
func tiny() amounts {
	return amounts{
		rounds: 1, livesAlone: 2, livesTogether: 4, pairs: 2, existing: []int{2, 4}, formatted: []int{2},
		calls: 2, starts: 1, ioBytes: 4 * mib, ioCalls: 20, ioPairs: 1, copies: 1, diskBytes: 400 * mib,
	}
}

func TestEveryPartMeasuresAndLeavesNothingBehind(t *testing.T) {
	disk := harness.NewDisk(t, "ext4", 3*gib)
	var out bytes.Buffer
	o := options{
		driver: harness.Binary(t), folder: disk.Path, json: filepath.Join(harness.Dir(t), "bench.json"), amounts: tiny(), out: &out,
	}
	if err := run(o, false, ""); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(o.json)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Lives) != 6 || len(r.Copies) != 4 || len(r.Floors) != 15 || len(r.IO) != 4 || len(r.Many) != 3 {
		t.Errorf("measured %d lives, %d copies, %d floors, %d throughputs, %d numbers of volumes",
			len(r.Lives), len(r.Copies), len(r.Floors), len(r.IO), len(r.Many))
	}
	for _, f := range slices.Concat(r.Floors, r.IO) {
		if f.Driver <= 0 || f.Hand <= 0 || f.Ratio <= 0 {
			t.Errorf("%s of a %s: %+v", f.Name, f.Volume, f)
		}
	}
	for _, word := range []string{"Aims", rawBlock, ext4Image, subdirectory, "NodeStageVolume", "start"} {
		if !strings.Contains(out.String(), word) {
			t.Errorf("the table doesn't say %q:\n%s", word, out.String())
		}
	}
	entries, err := os.ReadDir(disk.Path)
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if loops, err := harness.Loops(disk.Path); err != nil || len(loops) > 0 {
		t.Errorf("left attached: %v, %v", loops, err)
	}
}

func TestPercentilesAreByNearestRank(t *testing.T) {
	var took []time.Duration
	for n := 100; n > 0; n-- {
		took = append(took, time.Duration(n)*time.Millisecond)
	}
	if got, want := sum(took), (latency{100, 50, 95, 99, 100}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := sum(took[:1]), (latency{1, 100, 100, 100, 100}); got != want {
		t.Errorf("of one: got %v, want %v", got, want)
	}
	if got := sum(nil); got != (latency{}) {
		t.Errorf("of none: got %v", got)
	}
	for want, v := range map[float64][]float64{0: nil, 3: {9, 3, 1}, 2.5: {4, 1, 2, 3}} {
		if got := median(v); got != want {
			t.Errorf("the median of %v is %v, want %v", v, got, want)
		}
	}
}

func TestRivalsTakeTurnsAndTheOneThatBeganComesSecondNext(t *testing.T) {
	var order strings.Builder
	turn := func(name string) rival {
		return rival{
			do:   func(context.Context, int) error { order.WriteString(name); return nil },
			undo: func(context.Context, int) error { order.WriteString(strings.ToLower(name)); return nil },
		}
	}
	a, b, err := compare(t.Context(), 2, turn("A"), turn("B"))
	if err != nil || len(a) != 2 || len(b) != 2 {
		t.Errorf("%d and %d turns, %v", len(a), len(b), err)
	}
	if got, want := order.String(), "AaBbBbAa"; got != want {
		t.Errorf("got order %s, want %s", got, want)
	}
}

func TestAnAimIsMetOrMissed(t *testing.T) {
	r := report{
		Floors: []floorFigures{
			{Name: aimCreate, Volume: ext4Image, Ratio: 1.3},
			{Name: aimPublish, Volume: ext4Image, Ratio: 1.31},
			{Name: aimPublish, Volume: rawBlock, Ratio: 9},
		},
		IO:    []floorFigures{{Name: "sequential reads", Ratio: 0.94}},
		Lives: []lifeFigures{{Volume: subdirectory, Callers: 1, PerSecond: 60}, {Volume: subdirectory, Callers: 16, PerSecond: 149}},
		Many: []manyFigures{
			{Volume: rawBlock, Existing: 10, Calls: map[string]latency{callCreate: {P50: 1}}},
			{Volume: rawBlock, Existing: 10000, Calls: map[string]latency{callCreate: {P50: 2}}, StartMs: 499},
		},
		Footprint: []footprint{{Existing: 0, AnonMiB: 19}, {Existing: 1000, RSSMiB: 31}, {Existing: 10000, RSSMiB: 99}},
	}
	var got []bool
	for _, a := range r.aims() {
		got = append(got, a.Met)
	}
	if want := []bool{true, false, false, true, false, false, true, true, false}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v: %+v", got, want, r.aims())
	}
}

func TestWhatIsWrongIsSaidBeforeAnythingIsDone(t *testing.T) {
	for want, o := range map[string]options{
		"make bench":         {driver: "/none"},
		`no part "nonsense"`: {driver: harness.Binary(t), only: []string{"nonsense"}},
	} {
		if err := o.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want a word of %s", err, want)
		}
	}
}
