package datastore

import (
	"context"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

func TestClaimsKeepDatastoresApart(t *testing.T) {
	for name, c := range map[string]struct {
		place   string
		above   []string
		refused string
	}{
		"another place":             {"dev:9", []string{"dev:2"}, ""},
		"the same place":            {"dev:5", []string{"dev:2"}, `"first" is at the same place`},
		"inside the first":          {"dev:7", []string{"dev:5", "dev:2"}, `inside datastore "first"`},
		"above the first":           {"dev:3", []string{"dev:2"}, `"first" lies inside it`},
		"a neighbour in one folder": {"dev:6", []string{"dev:3", "dev:2"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var claims Claims
			if err := claims.Take("first", "dev:5", []string{"dev:3", "dev:2"}); err != nil {
				t.Fatal(err)
			}
			err := claims.Take("second", c.place, c.above)
			if (err == nil) != (c.refused == "") || (err != nil && (!fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), c.refused))) {
				t.Errorf("got %v", err)
			}
			if err := claims.Take("first", "dev:5", nil); err != nil {
				t.Errorf("its own claim again: %v", err)
			}
			claims.Release("first")
			if err := claims.Take("second", c.place, c.above); err != nil {
				t.Errorf("after the release: %v", err)
			}
		})
	}
}

func TestLedger(t *testing.T) {
	var l Ledger
	limits := Limits{Bytes: 100, MaxVolumes: 2}
	for _, c := range []struct {
		id    string
		bytes int64
		ok    bool
	}{
		{"a", 60, true},
		{"b", 41, false},
		{"b", 40, true},
		{"c", 0, false},
		{"a", 60, true},
		{"a", 61, false},
		{"a", 10, true},
		{"b", 90, true},
		{"b", 91, false},
		{"b", math.MaxInt64, false},
	} {
		if err := l.Reserve(c.id, c.bytes, limits); (err == nil) != c.ok || (err != nil && !fault.Is(err, fault.Exhausted)) {
			t.Errorf("reserve %s %d: %v", c.id, c.bytes, err)
		}
	}
	// A limit that shrank below what is promised refuses no promise that is not raised.
	if err := l.Reserve("b", 90, Limits{Bytes: 1}); err != nil {
		t.Errorf("a promise that stays: %v", err)
	}
	l.Release("b")
	l.Release("b")
	l.Set("c", 1000)
	if bytes, volumes := l.Promised(); bytes != 1010 || volumes != 2 {
		t.Errorf("%d bytes, %d volumes", bytes, volumes)
	}
}

func TestTwoReservationsAtOnceNeverPromiseTooMuch(t *testing.T) {
	var l Ledger
	var granted atomic.Int64
	var callers sync.WaitGroup
	for i := range 64 {
		callers.Go(func() {
			if l.Reserve(string(rune('a'+i)), 10, Limits{Bytes: 100}) == nil {
				granted.Add(10)
			}
		})
	}
	callers.Wait()
	if bytes, _ := l.Promised(); bytes != 100 || granted.Load() != 100 {
		t.Errorf("%d bytes promised, %d granted", bytes, granted.Load())
	}
}

// stuck is a pool whose Create waits.
type stuck struct {
	Pool
	entered, leave chan struct{}
}

func (s *stuck) Create(context.Context, Volume, *Volume, Progress) (Made, error) {
	s.entered <- struct{}{}
	<-s.leave
	return Made{}, nil
}

func (s *stuck) Delete(context.Context, Volume, Disposal) error { return nil }

func TestASecondCallAboutAVolumeIsBusyAtOnce(t *testing.T) {
	s := &stuck{entered: make(chan struct{}), leave: make(chan struct{})}
	pool := &exclusive{Pool: s, inUse: &inUse{held: map[string]int{}}}
	done := make(chan error)
	go func() {
		_, err := pool.Create(t.Context(), Volume{ID: "v"}, &Volume{ID: "source"}, nil)
		done <- err
	}()
	<-s.entered
	if err := pool.Delete(t.Context(), Volume{ID: "v"}, Disposal{}); !fault.Is(err, fault.Busy) {
		t.Errorf("the same volume: %v", err)
	}
	if err := pool.Delete(t.Context(), Volume{ID: "w"}, Disposal{}); err != nil {
		t.Errorf("another volume: %v", err)
	}
	if err := pool.Delete(t.Context(), Volume{ID: "source"}, Disposal{}); !fault.Is(err, fault.Busy) {
		t.Errorf("the source of a copy: %v", err)
	}
	second := make(chan error)
	go func() {
		_, err := pool.Create(t.Context(), Volume{ID: "x"}, &Volume{ID: "source"}, nil)
		second <- err
	}()
	<-s.entered // two copies of one source
	close(s.leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
	for _, id := range []string{"v", "source"} {
		if err := pool.Delete(t.Context(), Volume{ID: id}, Disposal{}); err != nil {
			t.Errorf("%s after the calls: %v", id, err)
		}
	}
}

func TestMissingNamesWhatIsAllowed(t *testing.T) {
	c := Capabilities{
		AccessTypes: []v1alpha1.AccessType{v1alpha1.Filesystem}, Formats: []v1alpha1.VolumeFormat{v1alpha1.FormatImage},
		Provisioning: []v1alpha1.Provisioning{v1alpha1.Thin}, Filesystems: []string{"ext4", "xfs"},
	}
	v := Volume{Access: v1alpha1.Filesystem, Format: v1alpha1.FormatImage, Provisioning: v1alpha1.Thin, Filesystem: &v1alpha1.FilesystemSpec{Type: "xfs"}}
	if got := c.Missing(v); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	v.Access, v.Provisioning, v.Filesystem.Type = v1alpha1.Block, v1alpha1.Thick, "btrfs"
	got := strings.Join(c.Missing(v), "; ")
	for _, want := range []string{`"Block"`, "[Filesystem]", `"thick"`, "[thin]", `"btrfs"`, "[ext4, xfs]"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q does not say %s", got, want)
		}
	}
}

func TestBackendNameTellsNamesakesApart(t *testing.T) {
	a, b := Volume{ID: "v", UID: "0a1b2c3d-0000"}, Volume{ID: "v", UID: "9a1b2c3d-0000"}
	if a.BackendName() != "v-0a1b2c3d" || a.BackendName() == b.BackendName() {
		t.Errorf("%q and %q", a.BackendName(), b.BackendName())
	}
	if short := (Volume{ID: "v", UID: "x"}); short.BackendName() != "v-x" {
		t.Errorf("%q", short.BackendName())
	}
}
