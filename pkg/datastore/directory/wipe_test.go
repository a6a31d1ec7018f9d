package directory_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// secret is data that lies nowhere else on the machine, in full blocks.
func secret() []byte { return bytes.Repeat([]byte("secret "+uuid.NewString()+" "), 100) }

// fill writes a secret all over a range of a file or device, durably.
func fill(t testing.TB, name string, secret []byte, offset, size int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt(bytes.Repeat(secret, int(size)/len(secret)), offset)
	must(t, errors.Join(err, f.Sync()))
}

// lies counts in how many places a secret lies in the image below a file system.
func lies(t testing.TB, image, path string, secret []byte) int {
	t.Helper()
	run(t, "sync", "-f", path)
	f, err := os.Open(image)
	must(t, err)
	defer f.Close()
	n := 0
	for at := int64(0); ; {
		start, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return n
		}
		must(t, err)
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		must(t, err)
		data := make([]byte, min(end-start, 16*mib))
		_, err = f.ReadAt(data, start)
		must(t, err)
		n += bytes.Count(data, secret[:44])
		at = start + int64(len(data))
	}
}

// below is a pool on a file system whose image can be looked at.
func below(t testing.TB, fs string, size int64) (image, path string) {
	t.Helper()
	image, path = newImage(t, fs, size), t.TempDir()
	mount(t, image, path)
	return image, path
}

func wipe(w v1alpha1.WipePolicy) datastore.Disposal {
	return datastore.Disposal{Policy: v1alpha1.DeleteData, Wipe: w}
}

func TestAWipedVolumesBytesAreNowhere(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs"} {
		for name, c := range map[string]struct {
			volume datastore.Volume
			wipe   v1alpha1.WipePolicy
			use    func(t *testing.T, p datastore.Pool, path string, v datastore.Volume, secret []byte)
			stays  bool
			only   string
		}{
			"thin": {thin("pvc-1", 64*mib), v1alpha1.WipeZero, nil, false, ""},
			"thick, and zeroed in part by its file system": {thick("pvc-1", 64*mib), v1alpha1.WipeZero, func(t *testing.T, _ datastore.Pool, path string, v datastore.Volume, _ []byte) {
				run(t, "fallocate", "-z", "-o", "1M", "-l", "4M", imageOf(path, v))
			}, false, "ext4"}, // xfs takes other blocks for the zeroes at once
			"not asked for": {thin("pvc-1", 64*mib), v1alpha1.WipeNone, nil, true, ""},
		} {
			if c.only != "" && c.only != fs {
				continue
			}
			t.Run(fs+"/"+name, func(t *testing.T) {
				image, path := below(t, fs, 512*mib)
				p := newPool(t, path)
				s := secret()
				create(t, p, c.volume)
				device := attached(t, p, c.volume)
				fill(t, device, s, 0, 8*mib)
				fill(t, device, s, 40*mib, 8*mib)
				must(t, p.Close(t.Context(), c.volume))
				if c.use != nil {
					c.use(t, p, path, c.volume, s)
				}
				if lies(t, image, path, s) == 0 {
					t.Fatal("it was not even written")
				}
				must(t, p.Delete(t.Context(), c.volume, wipe(c.wipe)))
				must(t, newPool(t, path).Reclaim(t.Context()))
				if n := lies(t, image, path, s); (n > 0) != c.stays {
					t.Errorf("it lies in %d places", n)
				}
				if names, err := os.ReadDir(filepath.Join(path, ".datastore-csi/trash")); err != nil || len(names) > 0 {
					t.Errorf("left behind %v, %v", names, err)
				}
			})
		}
	}
}

// A block that a volume shares with a snapshot or a copy is wiped by the one that goes last, whatever was said
// for that one.
func TestSharedBytesAreWipedByTheLastThatHoldsThem(t *testing.T) {
	image, path := below(t, "xfs", 512*mib)
	p := newPool(t, path)
	v := thin("pvc-1", 32*mib)
	v.Wipe = v1alpha1.WipeZero
	snap, c := snapshot("snap-1", v), copyOf("pvc-2", v)
	snap.Wipe, c.Wipe = "", v1alpha1.WipeNone
	later := copyOf("pvc-3", v)
	later.Wipe = v1alpha1.WipeNone
	for _, order := range [][]datastore.Volume{{v, snap, c, later}, {snap, v, later, c}, {c, snap, later, v}, {v, c, later, snap}} {
		t.Run(order[0].ID+" first, "+order[3].ID+" last", func(t *testing.T) {
			s := secret()
			create(t, p, v)
			device := attached(t, p, v)
			fill(t, device, s, 0, 16*mib)
			take(t, p, v, snap)
			fill(t, device, s, 4*mib, 4*mib) // written elsewhere now
			restore(t, p, c, snap)
			fill(t, imageOf(path, c), s, 1*mib, mib)
			must(t, p.Close(t.Context(), v))
			for i, x := range order[:2] {
				must(t, p.Delete(t.Context(), x, wipe(map[bool]v1alpha1.WipePolicy{true: v1alpha1.WipeZero}[x.ID == v.ID])))
				if i == 0 { // a copy of what is to be wiped comes in between
					from := snap
					if x.ID == snap.ID {
						from = v
					}
					if x.ID != from.ID {
						restore(t, p, later, from)
					}
				}
				must(t, p.Reclaim(t.Context()))
			}
			for _, x := range order[2:] {
				if got := content(t, placeOf(path, x)); !bytes.Contains([]byte(got[:16*mib]), s[:44]) || lies(t, image, path, s) == 0 {
					t.Errorf("%s lost what is its own", x.ID)
				}
			}
			for _, x := range order[2:] {
				must(t, p.Delete(t.Context(), x, wipe(map[bool]v1alpha1.WipePolicy{true: v1alpha1.WipeZero}[x.ID == v.ID])))
				must(t, p.Reclaim(t.Context()))
			}
			if n := lies(t, image, path, s); n > 0 {
				t.Errorf("it lies in %d places", n)
			}
			status, err := p.Status(t.Context())
			must(t, err)
			if len(status.Findings) > 0 {
				t.Errorf("found %+v", status.Findings)
			}
		})
	}
}

func placeOf(path string, v datastore.Volume) string {
	if v.Snapshot {
		return snapshotOf(path, v)
	}
	return imageOf(path, v)
}

func TestAWipeGoesOnWhereItWas(t *testing.T) {
	image, path := below(t, "ext4", 512*mib)
	p := newPool(t, path)
	v, s := thin("pvc-1", 256*mib), secret()
	create(t, p, v)
	fill(t, imageOf(path, v), s, 0, 150*mib)
	must(t, p.Delete(t.Context(), v, wipe(v1alpha1.WipeZero)))
	trash := filepath.Join(path, ".datastore-csi/trash", v.BackendName())
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := p.Reclaim(step.WithHook(ctx, func(_, what string) {
		if strings.HasPrefix(what, "write zeroes") && exists(trash, "wipe.json") && strings.Contains(content(t, trash, "wipe.json"), "offset") {
			n++
			cancel()
		}
	}))
	wantKind(t, err, fault.Unavailable)
	if n != 1 || lies(t, image, path, s) == 0 {
		t.Errorf("it was ended %d times", n)
	}
	mine := secret() // to see that it doesn't begin again
	fill(t, filepath.Join(trash, "disk.img"), mine, 0, mib)
	must(t, newPool(t, path).Reclaim(t.Context()))
	if n := lies(t, image, path, s); n > 0 {
		t.Errorf("it lies in %d places", n)
	}
	if lies(t, image, path, mine) == 0 {
		t.Error("it began again")
	}
}

// Two that share blocks are both in the trash: the one whose wipe was interrupted looks again at what it had left to
// the other, whichever is wiped first.
func TestAWipeThatWasInterruptedTakesBackWhatItLeftToAnother(t *testing.T) {
	for _, id := range []string{"aaa-snap", "zzz-snap"} {
		t.Run(id, func(t *testing.T) {
			image, path := below(t, "xfs", 512*mib)
			p := newPool(t, path)
			v, s := thin("pvc-1", 256*mib), secret()
			snap := snapshot(id, v)
			create(t, p, v)
			fill(t, imageOf(path, v), s, 0, 4*mib)
			take(t, p, v, snap)
			fill(t, imageOf(path, v), []byte("nobody cares about this"), 100*mib, 80*mib)
			must(t, p.Delete(t.Context(), v, wipe(v1alpha1.WipeZero)))
			trash := filepath.Join(path, ".datastore-csi/trash", v.BackendName())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err := p.Reclaim(step.WithHook(ctx, func(_, what string) {
				if strings.HasPrefix(what, "write zeroes") && exists(trash, "wipe.json") && strings.Contains(content(t, trash, "wipe.json"), "offset") {
					cancel()
				}
			}))
			wantKind(t, err, fault.Unavailable)
			must(t, p.Delete(t.Context(), snap, wipe(v1alpha1.WipeZero)))
			must(t, newPool(t, path).Reclaim(t.Context()))
			if n := lies(t, image, path, s); n > 0 {
				t.Errorf("it lies in %d places", n)
			}
		})
	}
}

func TestAWipeWaitsForThoseWhoRead(t *testing.T) {
	path := disk(t, "ext4", 256*mib)
	p := newPool(t, path)
	v := thin("pvc-1", mib)
	create(t, p, v)
	reader, err := os.Open(imageOf(path, v))
	must(t, err)
	must(t, p.Delete(t.Context(), v, wipe(v1alpha1.WipeZero)))
	wantKind(t, p.Reclaim(t.Context()), fault.Precondition, "open", v.BackendName())
	must(t, reader.Close())
	must(t, p.Reclaim(t.Context()))
}

func TestWipeByZeroesIsRefusedWhereItCannotBeHeld(t *testing.T) {
	path := disk(t, "btrfs", gib)
	c := config(t, path)
	p := open(t, c)
	v := thin("pvc-1", mib)
	v.Wipe = v1alpha1.WipeZero
	_, err := p.Create(t.Context(), v, nil, nil)
	wantKind(t, err, fault.Invalid, "btrfs", "discard", "ext4", path)
	v.Wipe = ""
	create(t, p, v)
	base := under(t, path)
	wantKind(t, p.Delete(t.Context(), v, wipe(v1alpha1.WipeZero)), fault.Precondition, "btrfs", "none")
	if after := under(t, path); after != base {
		t.Errorf("something was done:\n%s", after)
	}
	status, err := p.Status(t.Context())
	must(t, err)
	if slices.Contains(status.Features, v1alpha1.WipeByZeroes) || len(status.Findings) > 0 {
		t.Errorf("%+v", status)
	}
	c.Claims, c.Datastore.Spec.Volumes.Wipe = &datastore.Claims{}, v1alpha1.WipeZero
	status, err = open(t, c).Status(t.Context())
	must(t, err)
	if len(status.Findings) != 1 || status.Findings[0].Reason != "WipeImpossible" {
		t.Errorf("%+v", status.Findings)
	}
	must(t, p.Delete(t.Context(), v, wipe(v1alpha1.WipeDiscard)))
	must(t, p.Reclaim(t.Context()))
}

func TestAnOrderThatCannotBeReadKeepsTheBytes(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	v := thin("pvc-1", mib)
	create(t, p, v)
	must(t, p.Delete(t.Context(), v, wipe(v1alpha1.WipeDiscard)))
	trash := filepath.Join(path, ".datastore-csi/trash", v.BackendName())
	for _, damaged := range []string{"", "{", `{"wipe":"Burn"}`, `{"wipe":"Zero","offset":-1}`} {
		put(t, damaged, trash, "wipe.json")
		wantKind(t, p.Reclaim(t.Context()), fault.Precondition, "wipe.json")
		if !exists(trash, "disk.img") {
			t.Fatalf("%q: it is gone", damaged)
		}
	}
	put(t, `{"wipe":"Zero"}`, trash, "wipe.json")
	must(t, p.Reclaim(t.Context()))
}

func TestAVolumeToBeZeroedGivesNothingBackWhileItIsUsed(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	ordered := thin("pvc-ordered", mib) // it holds blocks of one that was to be zeroed
	create(t, p, ordered)
	put(t, `{"wipe":"Zero"}`, filepath.Dir(imageOf(path, ordered)), "wipe.json")
	opened, err := p.Open(t.Context(), ordered, false)
	must(t, err)
	must(t, p.Close(t.Context(), ordered))
	if opened.Discard {
		t.Error("it gives back what it was ordered to wipe")
	}
	for name, c := range map[string]struct {
		wipe v1alpha1.WipePolicy
		want bool
	}{"zero": {v1alpha1.WipeZero, false}, "none": {v1alpha1.WipeNone, true}, "": {"", true}} {
		t.Run(name, func(t *testing.T) {
			v := thin("pvc-"+strings.ToLower(name)+"x", mib)
			create(t, p, v)
			v.Wipe = c.wipe // changed since
			opened, err := p.Open(t.Context(), v, false)
			must(t, err)
			must(t, p.Close(t.Context(), v))
			if opened.Discard != c.want {
				t.Errorf("discard %t", opened.Discard)
			}
		})
	}
}
