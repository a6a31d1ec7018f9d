package directory_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// attach opens a volume until the test ends.
func attach(t *testing.T, p datastore.Pool, v datastore.Volume) datastore.Opened {
	t.Helper()
	opened, err := p.Open(t.Context(), v, false)
	must(t, err)
	t.Cleanup(func() {
		if err := p.Close(context.WithoutCancel(t.Context()), v); err != nil {
			t.Error(err)
		}
	})
	return opened
}

// backing is what the kernel says a loop device backs, or "".
func backing(device string) string {
	b, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(device), "loop/backing_file"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func TestAVolumeIsUsedGrownAndGivenBack(t *testing.T) {
	onEach(t, func(t *testing.T, fs, path string, reopen func() datastore.Pool) {
		v := formatted(thin("pvc-1", 320*mib), fs)
		create(t, reopen(), v)
		opened, err := reopen().Open(t.Context(), v, false)
		must(t, err)
		if opened.Bytes != v.Bytes || opened.Identity != v.UID || !opened.Discard || !strings.HasSuffix(backing(opened.Device), "/disk.img") {
			t.Errorf("opened %+v backs %s", opened, backing(opened.Device))
		}
		if again, err := reopen().Open(t.Context(), v, false); err != nil || again != opened {
			t.Errorf("opened again: %+v, %v", again, err)
		}
		dir := t.TempDir()
		run(t, "mount", opened.Device, dir)
		data := pattern(16 * mib)
		must(t, os.WriteFile(filepath.Join(dir, "data"), data, 0o600))
		run(t, "sync", "-f", dir)
		must(t, reopen().Close(t.Context(), v)) // in use: the kernel lets go later
		if backing(opened.Device) == "" {
			t.Error("a device in use was detached")
		}
		v.Bytes = 512 * mib
		made, err := reopen().Expand(t.Context(), v)
		if err != nil || made.Bytes != v.Bytes {
			t.Errorf("expanded to %+v, %v", made, err)
		}
		if got := deviceBytes(t, opened.Device); got != v.Bytes {
			t.Errorf("the device has %d bytes", got)
		}
		unmount(t, dir)
		if b := backing(opened.Device); strings.Contains(b, v.ID) {
			t.Errorf("unmounted, and still attached to %s", b)
		}
		readOnly, err := reopen().Open(t.Context(), v, true)
		must(t, err)
		if ro := content(t, "/sys/block", filepath.Base(readOnly.Device), "ro"); ro != "1\n" || readOnly.Discard {
			t.Errorf("read-only %q, %+v", ro, readOnly)
		}
		run(t, "mount", "-o", "ro", readOnly.Device, dir)
		if content(t, dir, "data") != string(data) {
			t.Error("the data is another")
		}
		wantKind(t, reopen().Delete(t.Context(), v, datastore.Disposal{}), fault.Precondition, readOnly.Device, "pvc-1")
		unmount(t, dir)
		must(t, reopen().Close(t.Context(), v))
		must(t, reopen().Close(t.Context(), v))
		remove(t, reopen(), v)
		_, err = reopen().Open(t.Context(), v, false)
		wantKind(t, err, fault.NotFound)
		_, err = reopen().Expand(t.Context(), v)
		wantKind(t, err, fault.NotFound)
		must(t, reopen().Close(t.Context(), v))
		must(t, reopen().Delete(t.Context(), v, datastore.Disposal{}))
		if exists(imageOf(path, v)) {
			t.Error("the image is still there")
		}
	})
}

// Whoever lists loop devices has each of them open for a moment.
func TestDeleteWaitsForAPasserby(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	v := thin("pvc-1", mib)
	create(t, p, v)
	opened, err := p.Open(t.Context(), v, false)
	must(t, err)
	passerby, err := os.Open(opened.Device)
	must(t, err)
	must(t, p.Close(t.Context(), v))
	var leaving errgroup.Group
	ctx := before(t.Context(), "loop: detach", func() { leaving.Go(passerby.Close) })
	must(t, p.Delete(ctx, v, datastore.Disposal{}))
	must(t, leaving.Wait())
}

// use formats nothing: it mounts a volume, writes a file, removes it, trims, and returns what the image took
// with the file and afterwards.
func use(t *testing.T, path string, p datastore.Pool, v datastore.Volume, options string) (full, after int64) {
	t.Helper()
	opened := attach(t, p, v)
	dir := t.TempDir()
	run(t, "mount", "-o", options, opened.Device, dir)
	must(t, os.WriteFile(filepath.Join(dir, "data"), pattern(32*mib), 0o600))
	if v.Filesystem.Type == "ext4" { // writes zeroes around what is written into the middle
		run(t, "fallocate", "-l", "8M", filepath.Join(dir, "zeroes"))
		run(t, "dd", "if=/dev/urandom", "of="+filepath.Join(dir, "zeroes"), "bs=4k", "seek=500", "count=1", "conv=notrunc,fsync", "status=none")
	}
	run(t, "sync", "-f", dir)
	full = allocated(t, imageOf(path, v))
	must(t, os.Remove(filepath.Join(dir, "data")))
	run(t, "sync", "-f", dir)
	if opened.Discard {
		run(t, "fstrim", dir)
	}
	unmount(t, dir)
	return full, allocated(t, imageOf(path, v))
}

func TestAThinImageGivesSpaceBack(t *testing.T) {
	onEach(t, func(t *testing.T, fs, path string, reopen func() datastore.Pool) {
		for _, on := range filesystems() {
			v := formatted(thin("pvc-"+on, 320*mib), on)
			create(t, reopen(), v)
			fresh := allocated(t, imageOf(path, v))
			full, after := use(t, path, reopen(), v, "discard")
			t.Logf("%s on %s: %d KiB fresh, %d KiB with 32 MiB written, %d KiB after the file's end", on, fs, fresh>>10, full>>10, after>>10)
			if full < 32*mib || after > full-30*mib {
				t.Errorf("%s on %s: with 32 MiB written %d bytes, after they were removed %d", on, fs, full, after)
			}
		}
	})
}

func TestAThickImageStaysWhole(t *testing.T) {
	onEach(t, func(t *testing.T, fs, path string, reopen func() datastore.Pool) {
		for _, on := range filesystems() {
			v := formatted(thick("pvc-"+on, 320*mib), on)
			create(t, reopen(), v)
			whole := func(when string) {
				t.Helper()
				if got := allocated(t, imageOf(path, v)); got < v.Bytes {
					t.Errorf("%s on %s, %s: %d of %d bytes are allocated", on, fs, when, got, v.Bytes)
				}
			}
			whole("after format")
			if full, _ := use(t, path, reopen(), v, "discard"); full < v.Bytes { // asked for, and not to be had
				t.Errorf("%s on %s, in use: %d of %d bytes are allocated", on, fs, full, v.Bytes)
			}
			whole("after use")
			opened := attach(t, reopen(), v)
			if out, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(opened.Device), "queue/discard_max_bytes")); err != nil || string(out) != "0\n" {
				t.Errorf("discard_max_bytes %q, %v", out, err)
			}
			must(t, reopen().Close(t.Context(), v))
			// However holes came into it, the next Open fills them.
			punch(t, imageOf(path, v))
			if got := allocated(t, imageOf(path, v)); got >= v.Bytes {
				t.Fatal("nothing was punched")
			}
			attach(t, reopen(), v)
			whole("after it was opened")
			must(t, reopen().Close(t.Context(), v))
			remove(t, reopen(), v)
		}
	})
}

func punch(t *testing.T, image string) {
	t.Helper()
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 64*mib, 32*mib))
}

func TestAThickImageCanBeOverwrittenOnAFullFilesystem(t *testing.T) {
	for _, fs := range filesystems() {
		t.Run(fs, func(t *testing.T) {
			path := disk(t, fs, 400*mib)
			p := newPool(t, path)
			v := thick("pvc-1", 64*mib)
			create(t, p, v)
			opened := attach(t, p, v)
			run(t, "sh", "-c", "dd if=/dev/zero bs=1M of="+path+"/ballast 2>/dev/null; sync -f "+path)
			for round := range 2 {
				device, err := os.OpenFile(opened.Device, os.O_RDWR, 0)
				must(t, err)
				_, err = device.Write(pattern(v.Bytes)[round:])
				must(t, errors.Join(err, device.Sync(), device.Close()))
				got, err := os.ReadFile(opened.Device)
				must(t, err)
				if !bytes.HasPrefix(got, pattern(v.Bytes)[round:]) {
					t.Fatal("the data is another")
				}
			}
		})
	}
}

// A disk whose sectors have 4096 bytes can't be written directly in smaller units.
func TestASectorSizeThatTheStorageBelowCanDo(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs"} { // btrfs doesn't say
		t.Run(fs, func(t *testing.T) {
			image, path := filepath.Join(memory(t, gib), "disk"), t.TempDir()
			must(t, os.WriteFile(image, nil, 0o600))
			must(t, os.Truncate(image, 900*mib))
			device := run(t, "losetup", "--find", "--show", "-b", "4096", image)
			t.Cleanup(func() { run(t, "losetup", "-d", device) })
			run(t, "mkfs."+fs, "-q", device)
			run(t, "mount", device, path)
			t.Cleanup(func() { unmount(t, path) })
			p := newPool(t, path)
			for _, on := range filesystems() {
				v := formatted(thin("pvc-"+on, 320*mib), on)
				create(t, p, v)
				opened := attach(t, p, v)
				queue := filepath.Join("/sys/block", filepath.Base(opened.Device), "queue/logical_block_size")
				if size := content(t, queue); size != "4096\n" {
					t.Errorf("%s on %s: logical block size %q", on, fs, size)
				}
				dir := t.TempDir()
				run(t, "mount", opened.Device, dir)
				put(t, "data", dir, "f")
				unmount(t, dir)
			}
		})
	}
}

func TestOpenVerifiesTheImage(t *testing.T) {
	outside := put(t, "secret", t.TempDir(), "victim")
	for name, c := range map[string]struct {
		meddle func(t *testing.T, image string)
		kind   fault.Kind
		says   string
	}{
		"gone":                     {func(t *testing.T, i string) { must(t, os.Remove(i)) }, fault.DataLoss, "gone"},
		"shorter than its mark":    {func(t *testing.T, i string) { must(t, os.Truncate(i, mib)) }, fault.DataLoss, "1048576"},
		"a symbolic link":          {func(t *testing.T, i string) { must(t, os.Remove(i)); must(t, os.Symlink(outside, i)) }, fault.Precondition, "symbolic link"},
		"a directory":              {func(t *testing.T, i string) { must(t, os.Remove(i)); must(t, os.Mkdir(i, 0o755)) }, fault.Precondition, "directory"},
		"a named pipe":             {func(t *testing.T, i string) { must(t, os.Remove(i)); must(t, unix.Mkfifo(i, 0o600)) }, fault.Precondition, "regular"},
		"in a linked directory":    {func(t *testing.T, i string) { relink(t, filepath.Dir(i)) }, fault.Precondition, "no directory"},
		"behind a bind mount":      {func(t *testing.T, i string) { bindOver(t, filepath.Dir(i)) }, fault.Precondition, "other mounts"},
		"itself a mount of a file": {func(t *testing.T, i string) { bindFile(t, outside, i) }, fault.Precondition, "other mounts"},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			p := newPool(t, path)
			v := thin("pvc-1", 2*mib)
			create(t, p, v)
			c.meddle(t, imageOf(path, v))
			for _, readOnly := range []bool{false, true} {
				_, err := p.Open(t.Context(), v, readOnly)
				wantKind(t, err, c.kind, c.says, "pvc-1", path)
			}
			_, err := p.Expand(t.Context(), v)
			wantKind(t, err, c.kind, c.says)
			if content(t, outside) != "secret" {
				t.Error("a file outside was changed")
			}
		})
	}
}

func relink(t *testing.T, dir string) {
	t.Helper()
	aside := filepath.Join(t.TempDir(), "aside")
	must(t, os.Rename(dir, aside))
	must(t, os.Symlink(aside, dir))
}

func bindOver(t *testing.T, dir string) {
	t.Helper()
	must(t, unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
}

func bindFile(t *testing.T, from, to string) {
	t.Helper()
	must(t, unix.Mount(from, to, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(to, 0)) })
}
