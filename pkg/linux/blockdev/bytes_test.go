package blockdev_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

const mib = 1 << 20

// open opens a device for writing and closes it in the end.
func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := blockdev.Open(path, blockdev.Mode{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // the second time for some
	return f
}

// fill writes a pattern over all of a device.
func fill(t *testing.T, f *os.File, size int64) []byte {
	t.Helper()
	pattern := bytes.Repeat([]byte("old bytes of somebody else......"), mib/32)
	all := bytes.Repeat(pattern, int(size/mib))
	if _, err := f.WriteAt(all, 0); err != nil {
		t.Fatal(err)
	}
	return all
}

func content(t *testing.T, f *os.File, size int64) []byte {
	t.Helper()
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func nobody(int64) error { return nil }

func TestZeroAndNothingBeside(t *testing.T) {
	const size = 200 * mib
	for name, sector := range map[string]string{"sectors of 512": "512", "sectors of 4096": "4096"} {
		t.Run(name, func(t *testing.T) {
			f := open(t, attach(t, size, "--sector-size", sector))
			want := fill(t, f, size)
			var told []int64
			if err := blockdev.Zero(t.Context(), f, 4096, size-8192, func(at int64) error { told = append(told, at); return nil }); err != nil {
				t.Fatal(err)
			}
			clear(want[4096 : size-8192])
			if !bytes.Equal(content(t, f, size), want) {
				t.Error("something else than the range was zeroed, or not all of it")
			}
			if len(told) != 4 || told[0] != 4096+64*mib || told[3] != size-8192 {
				t.Errorf("told %d", told)
			}
		})
	}
}

func TestWorkIsInterruptedAndGoesOn(t *testing.T) {
	const size = 200 * mib
	source, target := open(t, attach(t, size)), open(t, attach(t, size))
	want := fill(t, source, size)
	full := errors.New("the note can't be written")
	for name, run := range map[string]func(ctx context.Context, from int64, tell blockdev.Tell) error{
		"zero": func(ctx context.Context, from int64, tell blockdev.Tell) error {
			return blockdev.Zero(ctx, target, from, size, tell)
		},
		"copy": func(ctx context.Context, from int64, tell blockdev.Tell) error {
			return blockdev.Copy(ctx, blockdev.Copying{To: target, From: source, Start: from, End: size, Tell: tell})
		},
	} {
		t.Run(name, func(t *testing.T) {
			var at int64
			ctx, cancel := context.WithCancel(t.Context())
			err := run(ctx, 0, func(offset int64) error { at = offset; cancel(); return nil })
			if !errors.Is(err, context.Canceled) || at != 64*mib {
				t.Fatalf("at %d: %v", at, err)
			}
			if err := run(t.Context(), at, func(int64) error { return full }); !errors.Is(err, full) {
				t.Errorf("a note that failed: %v", err)
			}
			steps := 0
			counted := step.WithHook(t.Context(), func(_, _ string) { steps++ })
			if err := run(counted, at, func(offset int64) error { at = offset; return nil }); err != nil || at != size || steps != 3 {
				t.Errorf("at %d after %d steps: %v", at, steps, err)
			}
		})
	}
	if err := blockdev.Copy(t.Context(), blockdev.Copying{To: target, From: source, End: size, Zeroed: true, Tell: nobody}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, target, size), want) {
		t.Error("the copy differs")
	}
}

func TestCopyOfMoreThanThereIs(t *testing.T) {
	source, target := open(t, attach(t, mib)), open(t, attach(t, 2*mib))
	err := blockdev.Copy(t.Context(), blockdev.Copying{To: target, From: source, End: 2 * mib, Tell: nobody})
	if !fault.Is(err, fault.Precondition) {
		t.Errorf("got %v", err)
	}
}

func TestDiscard(t *testing.T) {
	device := attach(t, 4*mib)
	f := open(t, device)
	fill(t, f, 4*mib)
	done, err := blockdev.Discard(t.Context(), f, 0, 4*mib, nobody)
	if err != nil || done != (discard(t, device) > 0) {
		t.Errorf("done %v, %v", done, err)
	}
}

func TestWhoUsesADevice(t *testing.T) {
	device := attach(t, 64*mib)
	for _, use := range []func(string) (bool, error){blockdev.Held, blockdev.InUse} {
		if used, err := use(device); used || err != nil {
			t.Errorf("nobody: %v, %v", used, err)
		}
		if _, err := use(filepath.Join(t.TempDir(), "none")); !fault.Is(err, fault.NotFound) {
			t.Errorf("one that isn't there: %v", err)
		}
	}
	// A process that has it open: it ends with its standard input.
	reader := exec.CommandContext(t.Context(), "sh", "-c", `exec 3<"$0"; echo open; read -r _ || true`, device)
	in, err := reader.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := reader.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	if held, err := blockdev.Held(device); held || err != nil {
		t.Errorf("merely open: held %v, %v", held, err)
	}
	if used, err := blockdev.InUse(device); !used || err != nil {
		t.Errorf("open: used %v, %v", used, err)
	}
	_ = in.Close() // it ends by that
	if err := reader.Wait(); err != nil {
		t.Error(err)
	}
	mine, err := blockdev.Open(device, blockdev.Mode{Write: true, Exclusive: true})
	if err != nil {
		t.Fatal(err)
	}
	if used, err := blockdev.InUse(device); !used || err != nil {
		t.Errorf("claimed: %v, %v", used, err)
	}
	if _, err := blockdev.Open(device, blockdev.Mode{Exclusive: true}); !fault.Is(err, fault.Precondition) {
		t.Errorf("claimed twice: %v", err)
	}
	if err := mine.Close(); err != nil {
		t.Error(err)
	}
}

func TestALoopDeviceIsKnownByItsFile(t *testing.T) {
	one, other := attach(t, mib), attach(t, mib)
	a, err := blockdev.Identify(one)
	if err != nil || !strings.HasPrefix(a.WWID, "file:") {
		t.Fatalf("%+v, %v", a, err)
	}
	b, err := blockdev.Identify(other)
	if err != nil || a.WWID == b.WWID {
		t.Errorf("%+v and %+v, %v", a, b, err)
	}
	if _, err := blockdev.Identify(t.TempDir()); !fault.Is(err, fault.Precondition) {
		t.Errorf("a directory: %v", err)
	}
}

func TestDirectReadingNeedsAlignedBuffers(t *testing.T) {
	f, err := blockdev.Open(attach(t, mib, "--sector-size", "4096"), blockdev.Mode{Write: true, Direct: true})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 100 {
		if _, err := f.ReadAt(blockdev.Aligned(4096), 4096); err != nil {
			t.Fatal(err)
		}
	}
	if size, err := blockdev.SizeOf(f); err != nil || size != mib {
		t.Errorf("size %d, %v", size, err)
	}
	if sector, err := blockdev.SectorSizeOf(f); err != nil || sector != 4096 {
		t.Errorf("sector %d, %v", sector, err)
	}
}
