package rows

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

const (
	byHand = "pvc-by-hand"
	// testBytes is the size of the volume groups here, all of whose bytes are read.
	testBytes = 256 << 20
)

// makeByHand makes a logical volume as a driver might, and writes a file into it. It is inactive in the end.
func makeByHand(t *testing.T, s *lvmStorage, d harness.Data) {
	t.Helper()
	name := byHand + "-deadbeef"
	args := append([]string{"--yes", "--name", name}, markArgs()...)
	if s.thin {
		args = append(args, "--thin", "--virtualsize", "64m", s.group+"/"+thinPool)
	} else {
		args = append(args, "--size", "64m", s.group)
	}
	check(t, s.run("lvcreate", args...))
	check(t, harness.Mkfs("ext4", "/dev/mapper/"+s.mapped(name), "-b", "4096")) // what Data is searched by
	mountByHand(t, s, func(dir string) { check(t, d.WriteFile(filepath.Join(dir, "file"))) })
	check(t, s.run("lvchange", "--activate", "n", s.group+"/"+name))
}

// mountByHand mounts a volume for as long as it is used.
func mountByHand(t *testing.T, s *lvmStorage, use func(dir string)) {
	t.Helper()
	content, err := s.Content(byHand)
	check(t, err)
	dir := filepath.Join(harness.Dir(t), "mounted")
	check(t, os.Mkdir(dir, 0o755))
	check(t, unix.Mount(content.Path, dir, "ext4", 0, ""))
	use(dir)
	check(t, errors.Join(harness.Unmount(dir), content.Close()))
}

// onEachGroup runs a test on each volume group, in a machine of the test bed. Elsewhere there are none.
func onEachGroup(t *testing.T, test func(t *testing.T, s *lvmStorage)) {
	for _, row := range All() {
		if l, ok := row.(lvm); ok {
			t.Run(row.Name(), func(t *testing.T) { test(t, l.sized(testBytes).Setup(t).(*lvmStorage)) })
		}
	}
}

func TestWhatIsDoneToALogicalVolumeIsSeenAndUndone(t *testing.T) {
	onEachGroup(t, func(t *testing.T, s *lvmStorage) {
		d := harness.Data{Seed: "by hand", Bytes: 1 << 20}
		makeByHand(t, s, d)
		camera := s.Camera()
		before, err := camera.Take()
		check(t, err)
		if names, err := s.Volumes(); err != nil || !slices.Equal(names, []string{byHand + "-deadbeef"}) {
			t.Errorf("the volumes are %v, %v", names, err)
		}
		if n, err := s.Allocated(byHand); err != nil || n < d.Bytes || n > 64<<20 {
			t.Errorf("%d bytes are allocated, %v", n, err)
		}
		check(t, s.Below(t, d, true))
		check(t, s.Below(t, harness.Data{Seed: "nobody's", Bytes: 1 << 20}, false))
		for _, loss := range s.Losses() {
			undo := loss.Do(t, byHand)
			after, err := camera.Take()
			check(t, err)
			if before.Diff(after) == "" {
				t.Errorf("%s: no photo shows it", loss.Name)
			}
			undo()
			if err := camera.Settles(t.Context(), before, time.Minute); err != nil {
				t.Errorf("%s, undone: %v", loss.Name, err)
			}
		}
		mountByHand(t, s, func(dir string) {
			check(t, d.CheckFile(filepath.Join(dir, "file")))
			active, err := camera.Take()
			check(t, err)
			if before.Diff(active) == "" {
				t.Error("a volume that is active looks as one that isn't")
			}
			more := harness.Data{Seed: "more", Bytes: 1 << 20}
			check(t, more.WriteFile(filepath.Join(dir, "more")))
			to := filepath.Join(harness.Dir(t), "instant")
			s.Instant(t, byHand, to)
			for _, seen := range []harness.Data{d, more} {
				if found, err := seen.In(to); err != nil || !found {
					t.Errorf("data %q isn't in the volume as it was at an instant: %v", seen.Seed, err)
				}
			}
		})
		s.TakeAway(t)()
		check(t, camera.Settles(t.Context(), before, time.Minute))
		mountByHand(t, s, func(dir string) { check(t, d.CheckFile(filepath.Join(dir, "file"))) })
		check(t, s.Sweep())
	})
}

func TestABrokenVolumeGroupIsMended(t *testing.T) {
	onEachGroup(t, func(t *testing.T, s *lvmStorage) {
		d := harness.Data{Seed: "broken", Bytes: 1 << 20}
		makeByHand(t, s, d)
		for _, how := range s.Breakages() {
			mend := how.Break(t)
			if !how.Hangs {
				if got, err := harness.ReadVolumeGroup(s.disk.Path); err == nil {
					t.Errorf("%s: the disk still reads as that of the volume group %s", how.Name, got.Name)
				}
			}
			mend()
			mountByHand(t, s, func(dir string) { check(t, d.CheckFile(filepath.Join(dir, "file"))) })
		}
	})
}

func TestForeignVolumesAreSeenByTheirContent(t *testing.T) {
	onEachGroup(t, func(t *testing.T, s *lvmStorage) {
		camera := s.Foreign(t)
		before, err := camera.Take()
		check(t, err)
		check(t, (harness.Data{Seed: "touched", Bytes: 4096}).WriteDevice("/dev/mapper/"+s.group+"-foreign", 8<<20))
		after, err := camera.Take()
		check(t, err)
		if diff := before.Diff(after); diff == "" {
			t.Error("a write to somebody's volume isn't seen")
		}
		if names, err := s.Volumes(); err != nil || len(names) > 0 {
			t.Errorf("volumes of others are taken for ours: %v, %v", names, err)
		}
	})
}
