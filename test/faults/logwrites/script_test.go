package logwrites

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

const (
	mib  = int64(1) << 20
	pool = "pool"

	dataBytes = 64 << 10
)

// act is one thing that the script does.
type act struct{ verb, name, of string }

func (a act) String() string { return a.verb + " " + a.name + " " + a.of }

// script is the life that is recorded. Where images can't be copied while they are in use, snapshots wait until nobody does.
func script(instant bool) []act {
	early, late := []act{{"snapshot", "s", "b"}}, []act(nil)
	if !instant {
		early, late = late, early
	}
	return slices.Concat(
		[]act{{"create", "a", ""}, {"create", "b", ""}, {"up", "b", ""}, {"write", "b", ""}, {"write", "b", ""}},
		early, []act{{"down", "b", ""}}, late,
		[]act{
			{"up", "b", ""},
			{"write", "b", ""},
			{"create", "r", "s"},
			{"up", "r", ""},
			{"expand", "a", ""},
			{"delete", "a", ""},
			{"write", "b", ""},
			{"down", "r", ""},
			{"drop", "s", ""},
			{"down", "b", ""},
			{"create", "c", "b"},
			{"delete", "b", ""},
			{"up", "c", ""},
			{"write", "c", ""},
			{"down", "c", ""},
			{"delete", "c", ""},
			{"create", "d", ""},
			{"archive", "d", ""},
			{"delete", "d", ""},
			{"create", "t", ""},
			{"up", "t", ""},
			{"write", "t", ""},
			{"down", "t", ""},
			{"delete", "t", ""},
		})
}

// claims are the volumes that are no copies.
func claims() map[string]harness.Claim {
	in := func(more ...string) map[string]string {
		p := map[string]string{"datastore": pool}
		for i := 0; i < len(more); i += 2 {
			p[more[i]] = more[i+1]
		}
		return p
	}
	return map[string]harness.Claim{
		"a": {Block: true, Bytes: 4 * mib, Parameters: in("provisioning", "thick")},
		"b": {Filesystem: "ext4", Bytes: 32 * mib, Parameters: in()},
		"d": {Block: true, Bytes: 2 * mib, Parameters: in()},
		"t": {Bytes: 8 * mib, Parameters: in("format", "subdirectory", "quota", "none")},
	}
}

// thing is a volume or snapshot as the script leaves it.
type thing struct {
	claim    harness.Claim
	snapshot bool
	archive  bool
	// seeds are what was written, in order; each has a file of its own.
	seeds []string
}

// state is what there is at a place of the script.
type state struct {
	things   map[string]thing
	archived int
}

// after is what there is once so many acts were done.
func after(acts []act) state {
	s := state{things: map[string]thing{}}
	for i, a := range acts {
		s.do(i, a)
	}
	return s
}

func (s *state) do(i int, a act) {
	t := s.things[a.name]
	switch a.verb {
	case "create":
		t.claim = claims()[a.name]
		if a.of != "" {
			t = s.things[a.of]
			t.snapshot = false
		}
		t.claim.Name = a.name
	case "snapshot":
		t = s.things[a.of]
		t.snapshot = true
	case "write":
		t.seeds = append(slices.Clone(t.seeds), seed(i))
	case "archive":
		t.archive = true
	case "delete", "drop":
		if t.archive {
			s.archived++
		}
		delete(s.things, a.name)
		return
	}
	s.things[a.name] = t
}

func seed(i int) string { return fmt.Sprintf("act-%d", i) }

func data(seed string) harness.Data { return harness.Data{Seed: seed, Bytes: dataBytes} }

// actor calls a driver.
type actor struct {
	*harness.Driver
	dir string // for the volumes' paths
}

func (c actor) volume(name string, t thing) (*harness.Volume, error) {
	v, err := harness.NewVolume(c.Client, c.Host, filepath.Join(c.dir, name), t.claim)
	if err == nil {
		v.ID = name
	}
	return v, err
}

func (c actor) snapshot(name, of string) *harness.Snapshot {
	return &harness.Snapshot{Client: c.Client, Name: name, ID: name, Volume: of}
}

// do does an act, or does it again; s is what there was before it.
func (c actor) do(ctx context.Context, i int, a act, s state) error {
	was := s
	was.things = map[string]thing{}
	for name, t := range s.things {
		was.things[name] = t
	}
	was.do(i, a)
	t := was.things[a.name]
	if a.verb == "delete" || a.verb == "drop" {
		t = s.things[a.name]
	}
	v, err := c.volume(a.name, t)
	if err != nil {
		return err
	}
	calls := map[string][]func(context.Context) error{
		"up": {v.Attach, v.Stage, v.Publish}, "down": {v.Unpublish, v.Unstage, v.Detach}, "delete": {v.Delete},
		"drop":     {c.snapshot(a.name, "").Delete},
		"snapshot": {c.snapshot(a.name, a.of).Ready},
		"create": {func(ctx context.Context) error {
			if from, is := s.things[a.of]; is && from.snapshot {
				v.From = c.snapshot(a.of, "").Source()
			} else if is {
				v.From = (&harness.Volume{ID: a.of}).Source()
			}
			return v.Create(ctx)
		}},
		"expand": {func(ctx context.Context) error { _, err := v.Expand(ctx, t.claim.Bytes+8*mib); return err }},
		"archive": {func(ctx context.Context) error {
			_, err := c.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{
				VolumeId: a.name, MutableParameters: map[string]string{"onDelete": "archive"},
			})
			return err
		}},
		"write": {func(context.Context) error { return write(v, len(t.seeds)-1, t.seeds[len(t.seeds)-1]) }},
	}
	for _, call := range calls[a.verb] {
		if err := harness.Retry(ctx, call); err != nil {
			return fmt.Errorf("%v: %w", a, err)
		}
	}
	return nil
}

// write writes the n-th data of a volume.
func write(v *harness.Volume, n int, seed string) error {
	if v.Block {
		return data(seed).WriteDevice(v.Target, int64(n)*dataBytes)
	}
	return data(seed).WriteFile(file(v, n))
}

func file(v *harness.Volume, n int) string { return filepath.Join(v.Target, fmt.Sprint(n)) }
