package partition_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/partition"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

func TestABlankDeviceIsFormattedAndMounted(t *testing.T) {
	eachType(t, func(t *testing.T, r *rig) {
		p := r.opened()
		create(t, p, image("v-1"))
		status, err := p.Status(t.Context())
		if err != nil || status.UUID == "" || len(status.Findings) > 0 || status.Total < diskBytes/2 {
			t.Fatalf("%+v, %v", status, err)
		}
		// The next driver finds it as it is: mounted, and with its volume.
		r.uuid = status.UUID
		holds(t, r.opened(), image("v-1"))
		// After a reboot it is mounted again.
		r.unmount()
		holds(t, r.opened(), image("v-1"))
		// One that somebody unmounted is mounted by the next call.
		r.unmount()
		holds(t, p, image("v-1"))
	})
}

func TestWithoutLeaveNothingIsFormatted(t *testing.T) {
	r := newRig(t, "xfs")
	r.spec.Partition.Provision = v1alpha1.ProvisionNever
	_, err := r.open()
	wantKind(t, err, fault.Unavailable, r.link, "IfEmpty")
	if got := r.signature(); got != "" {
		t.Errorf("it bears %s", got)
	}
}

func TestWhatIsOnADeviceIsNeverFormatted(t *testing.T) {
	for name, c := range map[string]struct {
		put  func(t *testing.T, r *rig)
		kind fault.Kind
		say  string
	}{
		"a partition table":       {func(t *testing.T, r *rig) { do(t, "sh", "-c", "printf 'label:gpt\\nsize=20M\\n' | sfdisk -q "+r.image) }, fault.Precondition, "gpt"},
		"swap":                    {func(t *testing.T, r *rig) { do(t, "mkswap", r.image) }, fault.Precondition, "swap"},
		"a file system of others": {func(t *testing.T, r *rig) { do(t, "mkfs.ext4", "-q", r.image) }, fault.Precondition, "ext4"},
		"bytes that nobody knows": {func(t *testing.T, r *rig) {
			do(t, "dd", "if=/dev/urandom", "of="+r.image, "bs=4096", "count=1", "conv=notrunc")
		}, fault.Precondition, "zeroes"},
		"bytes at its end": {func(t *testing.T, r *rig) {
			do(t, "dd", "if=/dev/urandom", "of="+r.image, "bs=4096", "seek=131071", "count=1", "conv=notrunc")
		}, fault.Precondition, "zeroes"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "xfs")
			c.put(t, r)
			before := sum(t, r)
			_, err := r.open()
			wantKind(t, err, c.kind, c.say, r.link)
			if sum(t, r) != before {
				t.Error("it was changed")
			}
		})
	}
}

// sum tells whether a disk changes.
func sum(t *testing.T, r *rig) string {
	t.Helper()
	do(t, "blockdev", "--flushbufs", r.device())
	return content(t, r.image)
}

// content hashes what of a file is no hole.
func content(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	h := sha256.New()
	for at := int64(0); ; {
		from, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return hex.EncodeToString(h.Sum(nil))
		}
		must(t, err)
		at, err = f.Seek(from, unix.SEEK_HOLE)
		must(t, err)
		_, err = io.Copy(h, io.MultiReader(strings.NewReader(fmt.Sprintf("%d-%d", from, at)), io.NewSectionReader(f, from, at-from)))
		must(t, err)
	}
}

func TestAFileSystemOfSomebodyElseIsLeftAsItIs(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs"} {
		t.Run(fsType, func(t *testing.T) {
			r := newRig(t, fsType)
			do(t, "mkfs."+fsType, "-q", r.image)
			at := t.TempDir()
			must(t, unix.Mount(r.device(), at, fsType, 0, ""))
			must(t, os.WriteFile(filepath.Join(at, "thesis.txt"), []byte("mine"), 0o600))
			must(t, unix.Unmount(at, 0))
			before := sum(t, r)
			for range 2 {
				_, err := r.open()
				wantKind(t, err, fault.Precondition, "not empty", "spec.partition.initialize")
			}
			if sum(t, r) != before {
				t.Error("it was changed")
			}
			r.spec.Partition.Initialize = true
			create(t, r.opened(), image("v-1"))
			if text, err := os.ReadFile(filepath.Join(r.mountedAt("fast"), "thesis.txt")); string(text) != "mine" || err != nil {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
}

func TestAnEmptyFileSystemIsTaken(t *testing.T) {
	eachType(t, func(t *testing.T, r *rig) {
		do(t, "mkfs."+r.spec.Partition.FSType, "-q", r.image)
		r.spec.Partition.Provision, r.spec.Partition.FSType = v1alpha1.ProvisionNever, ""
		create(t, r.opened(), image("v-1"))
	})
}

func TestADeviceThatIsNotThere(t *testing.T) {
	r := newRig(t, "xfs")
	p := r.opened()
	create(t, p, image("v-1"))
	device := r.device()
	must(t, os.Remove(r.link))
	// What is mounted goes on.
	status, err := p.Status(t.Context())
	if err != nil || len(status.Findings) != 1 || status.Findings[0].Reason != "DeviceMissing" {
		t.Errorf("%+v, %v", status.Findings, err)
	}
	r.unmount()
	_, err = p.Find(t.Context(), image("v-1"))
	wantKind(t, err, fault.Unavailable, "is not there")
	_, err = r.open()
	wantKind(t, err, fault.Unavailable, "is not there", r.link)
	// It comes back under another name.
	do(t, "losetup", "-d", device)
	r.connect(r.image)
	holds(t, p, image("v-1"))
	holds(t, r.opened(), image("v-1"))
}

func TestAnotherDeviceUnderTheSameNameIsNotTaken(t *testing.T) {
	r := newRig(t, "xfs")
	p := r.opened()
	create(t, p, image("v-1"))
	mine := r.device()
	r.unmount()
	for name, make := range map[string]func(image string){
		"a blank one":    func(string) {},
		"one with files": func(image string) { do(t, "mkfs.xfs", "-q", image) },
		"swap":           func(image string) { do(t, "mkswap", image) },
	} {
		t.Run(name, func(t *testing.T) {
			other := filepath.Join(t.TempDir(), "other.img")
			must(t, os.WriteFile(other, nil, 0o600))
			must(t, os.Truncate(other, diskBytes))
			make(other)
			device := r.connect(other)
			before := content(t, other)
			_, err := p.Find(t.Context(), image("v-1"))
			wantKind(t, err, fault.Unavailable, "another disk")
			_, err = r.open()
			wantKind(t, err, fault.Unavailable, "another disk")
			if content(t, other) != before {
				t.Error("it was changed")
			}
			do(t, "losetup", "-d", device)
		})
	}
	r.point(mine)
	holds(t, p, image("v-1"))
}

func TestADeviceThatIsMountedElsewhereIsRefused(t *testing.T) {
	eachType(t, func(t *testing.T, r *rig) {
		do(t, "mkfs."+r.spec.Partition.FSType, "-q", r.image)
		at := t.TempDir()
		must(t, unix.Mount(r.device(), at, r.spec.Partition.FSType, 0, ""))
		_, err := r.open()
		wantKind(t, err, fault.Unavailable, at, "unmount it")
		must(t, unix.Unmount(at, 0))
		p := r.opened()
		create(t, p, image("v-1"))
		// A look of the administrator's at what is in use disturbs nobody.
		must(t, unix.Mount(r.device(), at, r.spec.Partition.FSType, 0, ""))
		holds(t, r.opened(), image("v-1"))
		must(t, unix.Unmount(at, 0))
	})
}

func TestAMountThatAnotherFolderOfMountsHolds(t *testing.T) {
	eachType(t, func(t *testing.T, r *rig) {
		create(t, r.opened(), image("v-1"))
		c := r.config("fast")
		c.Tools.MountDir = filepath.Join(r.dir, "moved")
		p, err := partition.Type().New(t.Context(), c)
		must(t, err)
		holds(t, p, image("v-1"))
		must(t, unix.Unmount(filepath.Join(r.dir, "moved", "fast"), 0))
		c.ClusterID = "cluster-b"
		_, err = partition.Type().New(t.Context(), c)
		wantKind(t, err, fault.Unavailable, `cluster "cluster-a"`, r.mountedAt("fast"))
	})
}

func TestTwoDatastoresOnOneDevice(t *testing.T) {
	r := newRig(t, "ext4")
	r.opened()
	_, err := partition.Type().New(t.Context(), r.config("other"))
	wantKind(t, err, fault.Unavailable, r.mountedAt("fast"))
}

func TestADirtyExt4IsRepairedBeforeItIsMounted(t *testing.T) {
	r := newRig(t, "ext4")
	create(t, r.opened(), image("v-1"))
	r.unmount()
	do(t, "debugfs", "-w", "-R", "ssv state 2", r.device()) // not clean, with errors
	holds(t, r.opened(), image("v-1"))
	r.unmount()
	if out := do(t, "dumpe2fs", "-h", r.device()); !strings.Contains(out, "Filesystem state:         clean") {
		t.Errorf("it was not checked: %s", out)
	}
	// What isn't repaired unasked is not mounted: a folder that two names claim.
	do(t, "debugfs", "-w", "-R", "clri /volumes", r.device())
	do(t, "debugfs", "-w", "-R", "ssv state 2", r.device())
	_, err := r.open()
	wantKind(t, err, fault.Precondition, "e2fsck -f "+r.link)
}

func TestAWriteProtectedDeviceIsRefused(t *testing.T) {
	eachType(t, func(t *testing.T, r *rig) {
		create(t, r.opened(), image("v-1"))
		r.unmount()
		do(t, "blockdev", "--setro", r.device())
		_, err := r.open()
		wantKind(t, err, fault.Precondition, r.link, "read-only")
		do(t, "blockdev", "--setrw", r.device())
		holds(t, r.opened(), image("v-1"))
	})
}

// A device that takes the place of the one that was looked at is neither formatted nor mounted.
func TestADeviceThatIsSwappedIsLeftAlone(t *testing.T) {
	for _, during := range []string{"make xfs on", "mount: read the file system"} {
		t.Run(during, func(t *testing.T) {
			r := newRig(t, "xfs")
			mine, other := r.device(), filepath.Join(t.TempDir(), "other.img")
			must(t, os.WriteFile(other, nil, 0o600))
			must(t, os.Truncate(other, diskBytes))
			do(t, "mkfs.xfs", "-q", other)
			strange := r.connect(other)
			r.point(mine)
			ctx := step.WithHook(t.Context(), func(_, what string) {
				if strings.Contains(what, during) {
					r.point(strange)
				}
			})
			_, err := partition.Type().New(ctx, r.config("fast"))
			wantKind(t, err, fault.Unavailable, "another one than a moment ago")
			at := t.TempDir()
			must(t, unix.Mount(strange, at, "xfs", unix.MS_RDONLY, ""))
			left, err := os.ReadDir(at)
			must(t, err)
			must(t, unix.Unmount(at, 0))
			if len(left) > 0 {
				t.Errorf("on the other one there is %v", left)
			}
			r.point(mine)
			create(t, r.opened(), image("v-1"))
		})
	}
}

func TestMountOptionsAreOnAList(t *testing.T) {
	r := newRig(t, "xfs")
	for _, option := range []string{"norecovery", "nouuid", "logdev=/dev/sda", "bind"} {
		r.spec.Partition.MountOptions = []string{option}
		_, err := r.open()
		wantKind(t, err, fault.Invalid, "spec.partition.mountOptions", "allowed are")
	}
	if got := r.signature(); got != "" {
		t.Errorf("it was formatted all the same: %s", got)
	}
	r.spec.Partition.MountOptions = []string{"noatime", "allocsize=64k"}
	r.opened()
	if out := do(t, "grep", r.mountedAt("fast"), "/proc/self/mountinfo"); !strings.Contains(out, "noatime") || !strings.Contains(out, "allocsize=64k") {
		t.Errorf("mounted as %s", out)
	}
}

// Somebody's copy of all mounts (unshare(2), a container that is started) outlives the one with which a file system was looked at.
func TestACopyOfTheLookIsOutlasted(t *testing.T) {
	eachType(t, func(t *testing.T, r *rig) {
		do(t, "mkfs."+r.spec.Partition.FSType, "-q", r.device())
		look := t.TempDir()
		option := map[string]string{"ext4": "noload", "xfs": "norecovery", "btrfs": "rescue=nologreplay"}[r.spec.Partition.FSType]
		do(t, "mount", "-o", "ro,"+option, r.device(), look)
		other := exec.Command("unshare", "--mount", "sh", "-c", "echo; exec sleep 1")
		out, err := other.StdoutPipe()
		must(t, err)
		must(t, other.Start())
		_, err = io.ReadFull(out, make([]byte, 1)) // it has its copy
		must(t, err)
		do(t, "umount", look)
		create(t, r.opened(), image("v-1"))
		must(t, other.Wait())
	})
}
