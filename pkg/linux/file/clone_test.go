package file_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

const blocks = 1 << 20

// fileOf makes a file beneath a root with that many bytes of data, on the storage.
func fileOf(t *testing.T, r *file.Root, name string, bytes int) *os.File {
	t.Helper()
	f, err := r.Create(t.Context(), name, 0o600)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	_, err = f.Write([]byte(strings.Repeat("datastore", bytes/9+1)[:bytes]))
	must(t, errors.Join(err, file.Sync(f)))
	return f
}

func extentsOf(t *testing.T, f *os.File) []file.Extent {
	t.Helper()
	var all []file.Extent
	must(t, file.Extents(t.Context(), f, 0, 1<<62, func(e file.Extent) bool {
		all = append(all, e)
		return true
	}))
	return all
}

func TestCloneSharesBlocksWhereTheFileSystemCan(t *testing.T) {
	for fs, can := range map[string]bool{"ext4": false, "xfs": true, "btrfs": true} {
		t.Run(fs, func(t *testing.T) {
			dir := disk(t, fs, 400)
			r := openRoot(t, dir)
			if got, err := r.CanClone(); err != nil || got != can {
				t.Errorf("it says %t, %v", got, err)
			}
			from := fileOf(t, r, "from", blocks)
			to, err := r.Create(t.Context(), "to", 0o600)
			must(t, err)
			defer to.Close()
			if got, err := file.Clone(t.Context(), to, from); err != nil || got != can {
				t.Fatalf("it did %t, %v", got, err)
			}
			for _, e := range extentsOf(t, from) {
				if e.Shared != can {
					t.Errorf("extent %+v", e)
				}
			}
			if !can {
				return
			}
			a, b := extentsOf(t, from), extentsOf(t, to)
			if len(a) == 0 || len(a) != len(b) || a[0].Physical != b[0].Physical {
				t.Errorf("%+v and %+v", a, b)
			}
		})
	}
}

func TestCloneNeedsTheSameWayOfWritingOnBtrfs(t *testing.T) {
	r := openRoot(t, disk(t, "btrfs", 400))
	from, err := r.Create(t.Context(), "from", 0o600)
	must(t, err)
	defer from.Close()
	must(t, file.SetNoCow(t.Context(), from))
	_, err = from.Write(make([]byte, blocks))
	must(t, err)
	if in, err := file.NoCow(from); err != nil || !in {
		t.Errorf("not overwritten in place: %v", err)
	}
	to, err := r.Create(t.Context(), "to", 0o600)
	must(t, err)
	defer to.Close()
	if _, err := file.Clone(t.Context(), to, from); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
	must(t, file.SetNoCow(t.Context(), to))
	if done, err := file.Clone(t.Context(), to, from); err != nil || !done {
		t.Errorf("%t, %v", done, err)
	}
}

func TestAFullFileSystemTellsWhetherItShares(t *testing.T) {
	dir := disk(t, "xfs", 400)
	for _, size := range []int{16 << 20, 64 << 10} {
		for i := 0; ; i++ {
			f, err := os.Create(filepath.Join(dir, fmt.Sprintf("full-%d-%d", size, i)))
			if err == nil {
				_, err = f.Write(make([]byte, size))
				err = errors.Join(err, f.Sync(), f.Close())
			}
			if errors.Is(err, unix.ENOSPC) {
				break
			}
			must(t, err)
		}
	}
	if can, err := openRoot(t, dir).CanClone(); err != nil || !can {
		t.Errorf("%t, %v", can, err)
	}
}

func TestWrittenTellsOfWritersOnly(t *testing.T) {
	dir := t.TempDir()
	put(t, "x", dir, "f")
	r := openRoot(t, dir)
	f, err := r.Open("f")
	must(t, err)
	defer f.Close()
	check := func(want bool) {
		t.Helper()
		if got, err := file.Written(f); err != nil || got != want {
			t.Errorf("it says %t, %v", got, err)
		}
	}
	check(false)
	reader, err := r.Open("f")
	must(t, err)
	defer reader.Close()
	check(false)
	writer, err := r.OpenWrite("f")
	must(t, err)
	check(true)
	must(t, writer.Close())
	check(false)
}

func TestDataIsFoundAndCopiedByteByByte(t *testing.T) {
	r := openRoot(t, disk(t, "xfs", 400))
	from := fileOf(t, r, "from", blocks)
	must(t, file.Truncate(t.Context(), from, 8*blocks))
	_, err := from.WriteAt([]byte("end"), 6*blocks)
	must(t, errors.Join(err, file.Sync(from)))
	to, err := r.Create(t.Context(), "to", 0o600)
	must(t, err)
	defer to.Close()
	must(t, file.Truncate(t.Context(), to, 8*blocks))
	var told, ranges int64
	for at := int64(0); ; ranges++ {
		start, end, err := file.NextData(from, at)
		must(t, err)
		if start == end {
			if start != 8*blocks {
				t.Errorf("it ends at %d", start)
			}
			break
		}
		must(t, file.CopyRange(t.Context(), to, from, start, end, func(n int64) { told += n }))
		at = end
	}
	must(t, file.Sync(to))
	file.Forget(to, 0, 8*blocks)
	run(t, "cmp", from.Name(), to.Name())
	if ranges != 2 || told < blocks+3 || told > 2*blocks {
		t.Errorf("%d ranges, %d bytes", ranges, told)
	}
	for _, e := range extentsOf(t, to) {
		if e.Shared {
			t.Errorf("shared: %+v", e)
		}
	}
}

func TestCopyRangeEndsWithItsContextAndItsSource(t *testing.T) {
	r := openRoot(t, t.TempDir())
	from, to := fileOf(t, r, "from", blocks), fileOf(t, r, "to", 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := file.CopyRange(ctx, to, from, 0, blocks, func(int64) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := file.CopyRange(t.Context(), to, from, 0, 2*blocks, func(int64) {}); !fault.Is(err, fault.Precondition) {
		t.Errorf("got %v", err)
	}
}

func TestZeroesReachTheBlocksAndHolesGiveThemBack(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			r := openRoot(t, disk(t, fs, 400))
			f := fileOf(t, r, "f", blocks)
			before := extentsOf(t, f)
			must(t, file.FreeReserved(f))
			must(t, file.ZeroRange(t.Context(), f, 0, blocks))
			must(t, file.Sync(f))
			after := extentsOf(t, f)
			if len(before) == 0 || len(after) == 0 || before[0].Physical != after[0].Physical || after[0].Unwritten {
				t.Errorf("was %+v, is %+v", before, after)
			}
			if content(t, f.Name()) != string(make([]byte, blocks)) {
				t.Error("it doesn't read as zeroes")
			}
			must(t, file.PunchHole(t.Context(), f, 0, blocks))
			info, err := file.StatFile(f)
			must(t, err)
			if info.Allocated != 0 || info.Bytes != blocks {
				t.Errorf("%+v", info)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := file.ZeroRange(ctx, f, 0, blocks); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestExtentsOfARangeAndOfManyExtents(t *testing.T) {
	r := openRoot(t, disk(t, "ext4", 64))
	f, err := r.Create(t.Context(), "f", 0o600)
	must(t, err)
	defer f.Close()
	const n = 1000
	for i := range int64(n) {
		_, err := f.WriteAt([]byte("x"), i*8192)
		must(t, err)
	}
	all := extentsOf(t, f)
	var sum int64
	for i, e := range all {
		if sum += e.Bytes; i > 0 && e.Start <= all[i-1].Start {
			t.Fatalf("%+v follows %+v", e, all[i-1])
		}
	}
	if len(all) != n || sum != n*all[0].Bytes {
		t.Errorf("%d bytes in %d extents", sum, len(all))
	}
	var some int
	must(t, file.ExtentsAsTheyAre(t.Context(), f, 8192*10, 8192*20, func(file.Extent) bool { some++; return true }))
	if some != 10 {
		t.Errorf("%d extents in ten", some)
	}
	var first int
	must(t, file.Extents(t.Context(), f, 0, 1<<62, func(file.Extent) bool { first++; return false }))
	if first != 1 {
		t.Errorf("%d came before it ended", first)
	}
}

func TestLookTellsWhatIsInADirectory(t *testing.T) {
	dir := t.TempDir()
	put(t, "four", dir, "d/file")
	put(t, "x", dir, "d/under")
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "d/link")))
	bind(t, filepath.Join(dir, "d/file"), filepath.Join(dir, "d/under"))
	r := openRoot(t, dir)
	infos, err := r.Look("d", "file", "gone", "link", "under")
	must(t, err)
	want, err := r.Stat("d/file")
	must(t, err)
	if infos[0] != want {
		t.Errorf("got %+v, Stat says %+v", infos[0], want)
	}
	if infos[1] != (file.Info{}) || infos[3] != (file.Info{}) || infos[2].Mode&os.ModeSymlink == 0 {
		t.Errorf("got %+v", infos)
	}
	for _, dir := range []string{"", "../x", "d/link", "d/file", "gone"} {
		if _, err := r.Look(dir, "file"); err == nil {
			t.Errorf("%q was looked at", dir)
		}
	}
	if _, err := r.Look("d", "../d/file"); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
}
