package loop_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
)

// strangers attach and detach images of their own with losetup(8) until ctx ends, and count how often
// they did.
func strangers(ctx context.Context, g *errgroup.Group, images []string) *atomic.Int64 {
	rounds := &atomic.Int64{}
	for _, path := range images {
		g.Go(func() error {
			for ctx.Err() == nil {
				// Not bound to ctx: a tool that is killed half-way leaves its device behind.
				out, err := exec.Command("losetup", "--find", "--show", path).CombinedOutput()
				if err != nil {
					return fmt.Errorf("losetup: %w: %s", err, out)
				}
				dev := strings.TrimSpace(string(out))
				if out, err := exec.Command("losetup", "-d", dev).CombinedOutput(); err != nil {
					return fmt.Errorf("losetup -d %s: %w: %s", dev, err, out)
				}
				rounds.Add(1)
			}
			return nil
		})
	}
	return rounds
}

func TestAttachAndDetachAmongStrangers(t *testing.T) {
	m, dir := manager(t), t.TempDir()
	theirs := []string{image(t, dir, mib).Name(), image(t, dir, mib).Name()}
	ours := make([]*os.File, 8)
	for i := range ours {
		ours[i] = image(t, dir, int64(i+1)*mib)
	}
	ctx, stop := context.WithCancel(t.Context())
	var others, g errgroup.Group
	rounds := strangers(ctx, &others, theirs)
	for i, f := range ours {
		g.Go(func() error {
			for round := range 40 {
				o := loop.Options{ReadOnly: round%4 == 3, Discard: i%2 == 0, Name: fmt.Sprint("image ", i)}
				d, err := m.Attach(t.Context(), f, o)
				if err != nil {
					return err
				}
				if d.Bytes != int64(i+1)*mib || d.ReadOnly != o.ReadOnly || d.Name != o.Name || !backs(t, d.Path, f) {
					return fmt.Errorf("image %d got %+v", i, d)
				}
				if err := m.Detach(t.Context(), f); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	stop()
	if err := errors.Join(err, others.Wait()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rounds of ours among %d of strangers", 40*len(ours), rounds.Load())
	for _, f := range ours {
		gone(t, f)
	}
}

// TestTheSameImageUnderFire has several goroutines attach and detach one image while others hold its
// device open: at each moment it has one device at most, and in the end none.
func TestTheSameImageUnderFire(t *testing.T) {
	m, f := manager(t), image(t, t.TempDir(), mib)
	var g errgroup.Group
	for range 4 {
		g.Go(func() error {
			for range 25 {
				d, err := m.Attach(t.Context(), f, loop.Options{Discard: true})
				if err != nil {
					return err
				}
				fd, openErr := unix.Open(d.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if got := devices(t, f); len(got) > 1 {
					return fmt.Errorf("devices %v back one image", got)
				}
				if err := m.Detach(t.Context(), f); err != nil {
					return err
				}
				if openErr == nil {
					if err := unix.Close(fd); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	gone(t, f)
}

// many attaches that number of images, and detaches them all in the end.
func many(t testing.TB, m *loop.Manager, count int) []loop.Device {
	t.Helper()
	dir, all, files := t.TempDir(), make([]loop.Device, count), make([]*os.File, count)
	t.Cleanup(func() {
		for _, f := range files {
			if f == nil {
				continue
			}
			if err := errors.Join(m.Detach(context.Background(), f), f.Close()); err != nil {
				t.Error(err)
			}
		}
	})
	var g errgroup.Group
	g.SetLimit(8)
	for i := range all {
		g.Go(func() error {
			f, err := os.CreateTemp(dir, "*.img")
			if err != nil {
				return err
			}
			files[i] = f
			if err := f.Truncate(mib); err != nil {
				return err
			}
			all[i], err = m.Attach(t.Context(), f, loop.Options{Discard: true})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestMoreDevicesThanAMinorNumberHadBits(t *testing.T) {
	m := manager(t)
	there, err := filepath.Glob("/sys/block/loop*")
	if err != nil {
		t.Fatal(err)
	}
	all := many(t, m, max(16, 300-len(there)))
	seen, large := map[int]bool{}, 0
	for _, d := range all {
		if seen[d.Number] {
			t.Fatalf("two images on %s", d.Path)
		}
		seen[d.Number] = true
		if d.Minor > 255 {
			large++
			var st unix.Stat_t
			if err := unix.Stat(d.Path, &st); err != nil || unix.Minor(st.Rdev) != d.Minor || status(t, d.Path).Inode != d.ImageInode {
				t.Errorf("%+v: node has minor %d, %v", d, unix.Minor(st.Rdev), err)
			}
		}
	}
	if large == 0 {
		t.Error("no minor number is above 255")
	}
}

func BenchmarkAttachAndDetach(b *testing.B) {
	for _, existing := range []int{10, 1000} {
		for name, o := range map[string]loop.Options{"discard": {Discard: true, DirectIO: true}, "no discard": {DirectIO: true}} {
			b.Run(fmt.Sprintf("%d existing/%s", existing, name), func(b *testing.B) {
				m := manager(b)
				many(b, m, existing)
				f := image(b, b.TempDir(), mib)
				for b.Loop() {
					attach(b, m, f, o)
					if err := m.Detach(b.Context(), f); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(fmt.Sprintf("%d existing/again", existing), func(b *testing.B) {
			m := manager(b)
			many(b, m, existing)
			f := image(b, b.TempDir(), mib)
			for b.Loop() {
				attach(b, m, f, loop.Options{Discard: true})
			}
		})
		b.Run(fmt.Sprintf("%d existing/look at all", existing), func(b *testing.B) {
			many(b, manager(b), existing)
			for b.Loop() {
				manager(b)
			}
		})
	}
}
