package directory_test

import (
	"os"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

func TestExpandNeverShrinks(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	v := thin("pvc-1", 8*mib)
	create(t, p, v)
	for _, c := range []struct{ ask, want int64 }{{8 * mib, 8 * mib}, {mib, 8 * mib}, {9*mib + 1, 9*mib + 4096}, {0, 9*mib + 4096}, {-5, 9*mib + 4096}} {
		v.Bytes = c.ask
		made, err := p.Expand(t.Context(), v)
		must(t, err)
		v.Bytes = c.want
		checkMade(t, path, v, made)
	}
	v.Bytes = 1<<63 - 1
	_, err := p.Expand(t.Context(), v)
	wantKind(t, err, fault.OutOfRange, "pvc-1")
	v.Bytes = 9*mib + 4096
	checkMade(t, path, v, create(t, p, v))
}

func TestExpandWithoutSpaceLeavesTheVolumeAsItWas(t *testing.T) {
	onEach(t, func(t *testing.T, _, path string, reopen func() datastore.Pool) {
		p := reopen()
		v := thick("pvc-1", 128*mib)
		create(t, p, v)
		before, files := used(t, p), under(t, path)
		for _, more := range []int64{0, 8 * gib} { // nearly fits; cannot
			status, err := p.Status(t.Context())
			must(t, err)
			big := v
			big.Bytes = v.Bytes + status.Free + more
			_, err = p.Expand(t.Context(), big)
			wantKind(t, err, fault.Exhausted, "pvc-1")
			if after := under(t, path); after != files {
				t.Errorf("now there is:\n%s\nwas\n%s", after, files)
			}
			if after := used(t, p); after > before+mib {
				t.Errorf("%d bytes were in use, now %d", before, after)
			}
		}
		checkMade(t, path, v, create(t, p, v))
		v.Bytes += 64 * mib
		made, err := p.Expand(t.Context(), v)
		must(t, err)
		checkMade(t, path, v, made)
	})
}

func TestExpandTakesALargerImageAsItIs(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	v := thin("pvc-1", 8*mib)
	create(t, p, v)
	must(t, os.Truncate(imageOf(path, v), 16*mib)) // grown, and then the process died
	if opened := attach(t, p, v); opened.Bytes != 16*mib {
		t.Errorf("opened %+v", opened)
	}
	made, err := p.Expand(t.Context(), v)
	must(t, err)
	v.Bytes = 16 * mib
	checkMade(t, path, v, made)
}
