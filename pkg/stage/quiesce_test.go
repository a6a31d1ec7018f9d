package stage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// writes tells, at the end of the returned channel, that a file could be written.
func writes(path string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- os.WriteFile(path, []byte("x"), 0o600) }()
	return done
}

// frozen tells whether a file system is, by trying to freeze it.
func frozen(t *testing.T, path string) bool {
	t.Helper()
	const fiFreeze, fiThaw = 0xC0045877, 0xC0045878
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	err = unix.IoctlSetInt(fd, fiFreeze, 0)
	if err == nil {
		err = unix.IoctlSetInt(fd, fiThaw, 0)
	}
	if err != nil && !errors.Is(err, unix.EBUSY) {
		t.Fatal(err)
	}
	return err != nil
}

func TestAFileSystemIsAtRestWhileItIsCopied(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			r := newRig(t)
			r.volume("v", v1alpha1.Filesystem, func(s *v1alpha1.DatastoreVolumeSpec) {
				s.Filesystem.Type, s.Size = fs, v1alpha1.Bytes(320*mib)
			})
			r.must(r.Stage(t.Context(), r.request("v", v1alpha1.Filesystem)))
			took := errors.New("taken")
			var wrote <-chan error
			err := r.Quiesce(t.Context(), "v", func(context.Context) error {
				if !frozen(t, r.path("v")) {
					t.Error("it is not frozen")
				}
				if rec, err := r.records.load("v"); err != nil || !rec.Frozen {
					t.Errorf("the stage record is %+v, %v", rec, err)
				}
				wrote = writes(filepath.Join(r.path("v"), "f"))
				return took
			})
			if !errors.Is(err, took) {
				t.Errorf("answered %v", err)
			}
			r.must(<-wrote)
			if rec, err := r.records.load("v"); err != nil || rec.Frozen {
				t.Errorf("afterwards the stage record is %+v, %v", rec, err)
			}
			r.must(r.Unstage(t.Context(), "v", r.path("v")))
		})
	}
}

func TestWhatCannotBeFrozenIsCopiedAllTheSame(t *testing.T) {
	for name, prepare := range map[string]func(*rig){
		"no volume":  func(*rig) {},
		"not staged": func(r *rig) { r.volume("v", v1alpha1.Filesystem) },
		"a raw block volume": func(r *rig) {
			r.volume("v", v1alpha1.Block)
			r.must(r.Stage(r.t.Context(), r.request("v", v1alpha1.Block)))
		},
		"a sub-directory": func(r *rig) { r.tree("v"); r.must(r.Stage(r.t.Context(), r.request("v", v1alpha1.Filesystem))) },
		"unmounted by hand": func(r *rig) {
			r.volume("v", v1alpha1.Filesystem)
			r.must(r.Stage(r.t.Context(), r.request("v", v1alpha1.Filesystem)))
			r.must(unix.Unmount(r.path("v"), 0))
		},
		"another call works on it": func(r *rig) { _, err := r.hold("v"); r.must(err) },
		"its staging path is gone": func(r *rig) {
			r.volume("v", v1alpha1.Filesystem)
			r.must(r.Stage(r.t.Context(), r.request("v", v1alpha1.Filesystem)))
			r.must(unix.Unmount(r.path("v"), 0))
			r.must(os.Remove(r.path("v")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			prepare(r)
			taken := 0
			ctx := step.WithHook(t.Context(), func(_, what string) {
				if strings.HasPrefix(what, "freeze") {
					t.Errorf("%s", what)
				}
			})
			r.must(r.Quiesce(ctx, "v", func(context.Context) error { taken++; return nil }))
			if taken != 1 {
				t.Errorf("taken %d times", taken)
			}
			r.busy = map[string]bool{}
		})
	}
}

func TestACopyThatHangsFreezesNobodyForLong(t *testing.T) {
	r := newRig(t)
	r.volume("v", v1alpha1.Filesystem)
	r.must(r.Stage(t.Context(), r.request("v", v1alpha1.Filesystem)))
	r.config.FreezeLimit = 50 * time.Millisecond
	r.must(r.Quiesce(t.Context(), "v", func(context.Context) error {
		return <-writes(filepath.Join(r.path("v"), "f")) // ends when it is thawed
	}))
	r.free("v")
	if frozen(t, r.path("v")) {
		t.Error("it is frozen still")
	}
}

// free waits until no call works on a volume any more.
func (r *rig) free(id string) {
	for {
		if release, err := r.hold(id); err == nil {
			release()
			return
		}
		runtime.Gosched()
	}
}

func TestWhatSomebodyElseFrozeStaysFrozen(t *testing.T) {
	r := newRig(t)
	r.volume("v", v1alpha1.Filesystem)
	r.must(r.Stage(t.Context(), r.request("v", v1alpha1.Filesystem)))
	his, err := r.config.Mounter.OpenFilesystem(r.path("v"), func(mount.Point) error { return nil })
	r.must(err)
	defer his.Close()
	r.must(his.Freeze(t.Context()))
	for _, limit := range []time.Duration{time.Nanosecond, time.Hour} {
		r.config.FreezeLimit = limit
		r.must(r.Quiesce(t.Context(), "v", func(context.Context) error { return nil }))
		r.free("v")
		if rec, err := r.records.load("v"); err != nil || rec.Frozen || !frozen(t, r.path("v")) {
			t.Errorf("the stage record is %+v, %v; frozen %t", rec, err, frozen(t, r.path("v")))
		}
	}
	r.must(his.Thaw(t.Context()))
}

// The file system comes to rest too late: it is copied without, and thawed as soon as it is frozen.
func TestAFileSystemThatDoesNotComeToRestIsNotWaitedFor(t *testing.T) {
	r := newRig(t)
	r.volume("v", v1alpha1.Filesystem)
	r.must(r.Stage(t.Context(), r.request("v", v1alpha1.Filesystem)))
	r.config.FreezeLimit = time.Nanosecond
	taken := 0
	r.must(r.Quiesce(t.Context(), "v", func(context.Context) error { taken++; return nil }))
	r.free("v")
	if rec, err := r.records.load("v"); err != nil || rec.Frozen || taken != 1 || frozen(t, r.path("v")) {
		t.Errorf("taken %d times, the stage record is %+v, %v", taken, rec, err)
	}
	r.must(r.Unstage(t.Context(), "v", r.path("v")))
}

func TestAFreezeThatDiedIsThawedAtTheNextStart(t *testing.T) {
	r := newRig(t)
	r.volume("v", v1alpha1.Filesystem)
	r.must(r.Stage(t.Context(), r.request("v", v1alpha1.Filesystem)))
	r.must(r.Publish(t.Context(), r.publishRequest("v", v1alpha1.Filesystem)))
	f, err := r.freezable(t.Context(), "v")
	r.must(err)
	r.must(f.freeze())
	f.filesystem.Close()
	r.restart("boot-1")
	wrote := writes(filepath.Join(r.path("v.target"), "f"))
	r.must(r.Reconcile(t.Context()))
	r.must(<-wrote)
	if rec, err := r.records.load("v"); err != nil || rec.Frozen {
		t.Errorf("the stage record is %+v, %v", rec, err)
	}
	// Its staging mount was taken off by hand: it is thawed where it is published.
	f, err = r.freezable(t.Context(), "v")
	r.must(err)
	r.must(f.freeze())
	f.filesystem.Close()
	r.restart("boot-1")
	r.must(unix.Unmount(r.path("v"), unix.MNT_DETACH))
	r.must(r.Reconcile(t.Context()))
	if frozen(t, r.path("v.target")) {
		t.Error("it is frozen still")
	}
}

func TestAProcessThatEndsLeavesNothingFrozen(t *testing.T) {
	r := newRig(t)
	r.volume("v", v1alpha1.Filesystem)
	r.must(r.Stage(t.Context(), r.request("v", v1alpha1.Filesystem)))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	r.must(r.Quiesce(ended, "v", func(context.Context) error {
		if frozen(t, r.path("v")) {
			t.Error("it was frozen after the end")
		}
		return nil
	}))
	r.must(r.Quiesce(t.Context(), "v", func(context.Context) error {
		r.ThawAll()
		return <-writes(filepath.Join(r.path("v"), "f"))
	}))
	r.must(r.Quiesce(t.Context(), "v", func(context.Context) error {
		if frozen(t, r.path("v")) {
			t.Error("it was frozen when the stager was closed")
		}
		return nil
	}))
	if rec, err := r.records.load("v"); err != nil || rec.Frozen {
		t.Errorf("the stage record is %+v, %v", rec, err)
	}
}
