package directory_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// before calls do once, when a step of that name is about to be made.
func before(ctx context.Context, what string, do func()) context.Context {
	return step.WithHook(ctx, func(_, name string) {
		if do != nil && strings.HasPrefix(name, what) {
			once := do
			do = nil
			once()
		}
	})
}

// A pool that is opened anew while an old one still works (its spec changed) knows nothing of what the old
// one makes.
func TestCreateUnderAStrangersReclaimFailsWhole(t *testing.T) {
	for _, point := range []string{"create", "make ext4", "rename"} {
		t.Run(point, func(t *testing.T) {
			path := t.TempDir()
			old, other := newPool(t, path), newPool(t, path)
			v := formatted(thin("pvc-1", 64*mib), "ext4")
			base := under(t, path)
			_, err := old.Create(before(t.Context(), point, func() { must(t, other.Reclaim(t.Context())) }), v, nil, nil)
			wantKind(t, err, fault.Unavailable, "pvc-1")
			must(t, old.Reclaim(t.Context()))
			if after := under(t, path); after != base {
				t.Errorf("left behind:\n%s", after)
			}
			checkMade(t, path, v, create(t, old, v))
		})
	}
}

func TestCreateWhoseCallerGivesUpLeavesNothing(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	base := under(t, path)
	for _, v := range []datastore.Volume{formatted(thick("pvc-1", 64*mib), "ext4"), formatted(thin("pvc-1", 64*mib), "ext4")} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := p.Create(before(ctx, "make ext4", cancel), v, nil, nil)
		cancel()
		wantKind(t, err, fault.Unavailable, "pvc-1")
		if after := under(t, path); after != base {
			t.Errorf("left behind:\n%s", after)
		}
	}
}

func TestNoCallLeavesADescriptorOpen(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	v, damaged := formatted(thin("pvc-1", 64*mib), "ext4"), thin("pvc-2", mib)
	create(t, p, damaged)
	must(t, os.Remove(imageOf(path, damaged)))
	round := func() int {
		for range 3 {
			newPool(t, path)
			create(t, p, v)
			_, err := p.Open(t.Context(), v, false)
			must(t, err)
			_, err = p.Expand(t.Context(), v)
			must(t, err)
			must(t, p.Close(t.Context(), v))
			remove(t, p, v)
			_, err = p.Open(t.Context(), damaged, false)
			wantKind(t, err, fault.DataLoss)
		}
		entries, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(entries)
	}
	if first, second := round(), round(); first != second {
		t.Errorf("%d descriptors, then %d", first, second)
	}
}
