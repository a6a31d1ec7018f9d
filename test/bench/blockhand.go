package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// The pool's own settings of lvm, which the bare tool gets too.
const bareConfig = `activation{udev_sync=0 udev_rules=0 verify_udev_operations=0 monitoring=0} ` +
	`global{event_activation=0 use_lvmpolld=0 notify_dbus=0} backup{backup=0 archive=0} ` +
	`devices{obtain_device_list_from_udev=0 external_device_info_source="none" use_devicesfile=0 scan_lvs=0 hints="none"}`

// group is the volume group that the driver and the tool share, thin its pool.
const (
	group    = "bench"
	thin     = "pool"
	thinSize = "6G"
)

// lvmTool makes logical volumes with the bare tool: thick ones, or thin ones.
type lvmTool struct{ thin bool }

func (t lvmTool) lvm(args ...string) error {
	return harness.Run("lvm", append(args, "--config", bareConfig, "--devices", blockDisk)...)
}

func (t lvmTool) create(i int, bytes int64, fsType string) error {
	// The tag is as long as a mark. What the driver makes is active where it makes a file system, and else not.
	args := []string{"lvcreate", "-qq", "-y", "-n", name(i), "--addtag", "hand." + strings.Repeat("x", handBytes)}
	if t.thin {
		args = append(args, "-V", fmt.Sprintf("%db", bytes), "--thinpool", group+"/"+thin)
	} else {
		args = append(args, "-L", fmt.Sprintf("%db", bytes), group)
	}
	if fsType == "" {
		args = append(args, "-an", "-Zn", "-Wn")
		if t.thin {
			args = args[:len(args)-2] // a thin volume takes neither
		}
	} else {
		args = append(args, "-Wy")
		if !t.thin {
			args = append(args, "-Zy")
		}
	}
	if err := t.lvm(args...); err != nil || fsType == "" {
		return err
	}
	return mkfsByHand(fsType, filepath.Join("/dev", group, name(i)))
}

func (t lvmTool) remove(i int) error { return t.lvm("lvremove", "-qq", "-y", group+"/"+name(i)) }

func (t lvmTool) parts() string {
	return "lvcreate, lvremove with the same configuration and a tag as long"
}

// mkfsByHand makes a file system with the options of the driver's that decide how long it takes.
func mkfsByHand(fsType, device string) error {
	return harness.Run("mkfs."+fsType, "-q", "-E", "nodiscard", device)
}

func thickPool(*bench) (harness.Datastore, bare, error) {
	d := harness.Datastore{Name: datastoreName, Spec: harness.Fields{"type": "lvm", "lvm": harness.Fields{
		"volumeGroup": group, "devices": []string{blockDisk},
	}}}
	return roomy(d), lvmTool{}, makeGroup()
}

func thinPool(*bench) (harness.Datastore, bare, error) {
	d := harness.Datastore{Name: datastoreName, Spec: harness.Fields{"type": "lvm", "lvm": harness.Fields{
		"volumeGroup": group, "devices": []string{blockDisk}, "thinPool": harness.Fields{"name": thin},
	}}}
	err := makeGroup()
	if err == nil {
		err = lvmTool{}.lvm("lvcreate", "-qq", "-y", "--type", "thin-pool", "-n", thin, "-L", thinSize, group)
	}
	return roomy(d), lvmTool{thin: true}, err
}

func makeGroup() error {
	t := lvmTool{}
	return errors.Join(t.lvm("pvcreate", "-qq", "-y", blockDisk), t.lvm("vgcreate", "-qq", "-y", group, blockDisk))
}

// roomy lets volumes of the tool stand beside the driver's.
func roomy(d harness.Datastore) harness.Datastore {
	return d.With(10000, "capacity", "overcommitPercent")
}

// partTool makes partitions with the bare tools.
type partTool struct{ numbers map[int]string }

func (t partTool) create(i int, bytes int64, fsType string) error {
	cmd := exec.Command("sfdisk", "-q", "--append", "--no-reread", "--no-tell-kernel", "--force", blockDisk)
	cmd.Stdin = strings.NewReader(fmt.Sprintf("size=%dKiB, name=%s\n", bytes>>10, name(i)))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sfdisk: %w: %s", err, out)
	}
	out, err := exec.Command("partx", "--raw", "--noheadings", "--output", "NR,START,SECTORS,NAME", blockDisk).CombinedOutput()
	if err != nil {
		return fmt.Errorf("partx: %w: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) != 4 || f[3] != name(i) {
			continue
		}
		t.numbers[i] = f[0]
		if err := harness.Run("addpart", blockDisk, f[0], f[1], f[2]); err != nil || fsType == "" {
			return err
		}
		return mkfsByHand(fsType, blockDisk+f[0])
	}
	return fmt.Errorf("sfdisk made no partition %s: %s", name(i), out)
}

func (t partTool) remove(i int) error {
	return errors.Join(harness.Run("delpart", blockDisk, t.numbers[i]),
		harness.Run("sfdisk", "-q", "--delete", "--no-reread", "--no-tell-kernel", "--force", blockDisk, t.numbers[i]))
}

func (t partTool) parts() string {
	return "sfdisk --append, partx, addpart; delpart, sfdisk --delete"
}

func diskPool(*bench) (harness.Datastore, bare, error) {
	d := harness.Datastore{Name: datastoreName, Spec: harness.Fields{"type": "disk", "disk": harness.Fields{"devices": []string{blockDisk}}}}
	return roomy(d), partTool{numbers: map[int]string{}}, nil
}

// imageTool makes images with bare system calls, on the same file system.
type imageTool struct{ hand *hand }

func (t imageTool) create(i int, bytes int64, fsType string) error {
	return t.hand.make(i, kind{claim: claim(fsType, bytes)})
}

func (t imageTool) remove(i int) error { return t.hand.remove(i) }

func (t imageTool) parts() string { return bareMake + "; with a file system: " + bareMkfs }

func partitionPool(b *bench) (harness.Datastore, bare, error) {
	const at = "/mnt/bench"
	if err := errors.Join(harness.Mkfs("xfs", blockDisk, "-K"), os.MkdirAll(at, 0o700), unix.Mount(blockDisk, at, "xfs", 0, "")); err != nil {
		return harness.Datastore{}, nil, err
	}
	h, err := newHand(place{path: at}, b.made)
	d := harness.Datastore{Name: datastoreName, Spec: harness.Fields{"type": "partition", "partition": harness.Fields{
		"device": blockDisk, "initialize": true,
	}}}
	return d, imageTool{hand: h}, err
}
