package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// volume is one of the demo's volumes. Its methods are steps.
type volume struct {
	*harness.Volume
	label   string
	stores  []string
	content *content
	// open is held from the first write to the release, as an application would.
	open *os.File
}

// newVolume prepares a volume; nothing is called.
func newVolume(d *demo, label string, c harness.Claim) (*volume, error) {
	c.Name, c.Bytes = harness.NewName(), volumeBytes
	v, err := harness.NewVolume(d.driver.Client, host, filepath.Join(d.folder, label), c)
	return &volume{Volume: v, label: label, stores: d.stores, content: newContent()}, err
}

// path is where the data lies: a file on the mounted volume, or the device itself.
func (v *volume) path() string {
	if v.Block {
		return v.Target
	}
	return filepath.Join(v.Target, "data")
}

func (v *volume) create(ctx context.Context) (string, error) {
	if err := v.Create(ctx); err != nil {
		return "", err
	}
	store, taken, err := v.onDisk()
	if err != nil {
		return "", err
	}
	kind := "raw block"
	if !v.Block {
		kind = v.Filesystem
	}
	return fmt.Sprintf("%s %s, %s, on %s; takes %s", inBytes(v.Size), kind, v.Parameters["provisioning"], store, inBytes(taken)), nil
}

// onDisk finds the volume's image and tells its datastore and the bytes that it takes there.
func (v *volume) onDisk() (store string, taken int64, err error) {
	for _, path := range v.stores {
		found, err := filepath.Glob(filepath.Join(path, "volumes", v.ID+"-*", "disk.img"))
		if err != nil {
			return "", 0, err
		}
		if len(found) == 0 {
			continue
		}
		info, err := os.Stat(found[0])
		if err != nil {
			return "", 0, err
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			taken = stat.Blocks * 512 // stat(2): always in units of 512
		}
		return filepath.Base(path), taken, nil
	}
	return "", 0, fmt.Errorf("no datastore has an image of volume %s", v.ID)
}

// use makes the volume ready for an application: ControllerPublish, NodeStage, NodePublish.
func (v *volume) use(ctx context.Context) (string, error) {
	for _, call := range []func(context.Context) error{v.Attach, v.Stage, v.Publish} {
		if err := call(ctx); err != nil {
			return "", err
		}
	}
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(v.Target))
	if err != nil {
		return "", err
	}
	if len(mounts) != 1 {
		return "", fmt.Errorf("nothing is mounted on %s", v.Target)
	}
	if v.Block {
		info, err := os.Stat(v.Target)
		if err != nil {
			return "", err
		}
		if info.Mode().Type() != os.ModeDevice {
			return "", fmt.Errorf("%s is %s, not a block device", v.Target, info.Mode())
		}
		return "a block device at the target path", nil
	}
	return fmt.Sprintf("%s from %s, %s", mounts[0].FSType, mounts[0].Source, mounts[0].Options), nil
}

// write is the step that appends so many bytes to the volume's data.
func (v *volume) write(bytes int64) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		if v.open == nil {
			if err := v.openFile(); err != nil {
				return "", err
			}
		}
		if err := v.content.add(v.open, bytes); err != nil {
			return "", err
		}
		return v.content.String(), nil
	}
}

// openFile opens what the data lies in, behind what was written already.
func (v *volume) openFile() error {
	flags := os.O_RDWR
	if !v.Block && v.content.bytes == 0 {
		flags |= os.O_CREATE | os.O_EXCL
	}
	file, err := os.OpenFile(v.path(), flags, 0o600)
	if err != nil {
		return err
	}
	v.open = file
	_, err = file.Seek(v.content.bytes, io.SeekStart)
	return err
}

func (v *volume) stats(ctx context.Context) (string, error) {
	answer, err := v.Client.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{
		VolumeId: v.ID, VolumePath: v.Target, StagingTargetPath: v.Staging,
	})
	if err != nil {
		return "", err
	}
	var told []string
	for _, u := range answer.GetUsage() {
		switch {
		case u.GetUnit() == csi.VolumeUsage_INODES:
			told = append(told, fmt.Sprintf("%d of %d inodes", u.GetUsed(), u.GetTotal()))
		case v.Block:
			told = append(told, inBytes(u.GetTotal()))
		default:
			told = append(told, fmt.Sprintf("%s of %s used", inBytes(u.GetUsed()), inBytes(u.GetTotal())))
		}
	}
	if len(told) == 0 {
		return "", errors.New("the answer holds no usage")
	}
	return strings.Join(told, ", "), nil
}

// grow doubles the volume while the application has it open, and looks with the kernel's eyes.
func (v *volume) grow(ctx context.Context) (string, error) {
	before, err := v.room()
	if err != nil {
		return "", err
	}
	nodeToo, err := v.Expand(ctx, grownBytes)
	if err != nil {
		return "", err
	}
	if nodeToo {
		if err := v.NodeExpand(ctx, grownBytes); err != nil {
			return "", err
		}
	}
	after, err := v.room()
	if err != nil {
		return "", err
	}
	if after-before < (grownBytes-volumeBytes)*9/10 {
		return "", fmt.Errorf("the kernel sees %s, and saw %s before", inBytes(after), inBytes(before))
	}
	what := "device"
	if !v.Block {
		what = v.Filesystem
	}
	return fmt.Sprintf("%s -> %s; %s %s -> %s", inBytes(volumeBytes), inBytes(v.Size), what, inBytes(before), inBytes(after)), nil
}

// release takes the volume from the application: NodeUnpublish, NodeUnstage, ControllerUnpublish.
func (v *volume) release(ctx context.Context) (string, error) {
	if v.open != nil {
		if err := v.open.Close(); err != nil {
			return "", err
		}
		v.open = nil
	}
	for _, call := range []func(context.Context) error{v.Unpublish, v.Unstage, v.Detach} {
		if err := call(ctx); err != nil {
			return "", err
		}
	}
	if _, err := os.Lstat(v.Target); !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%s is still there", v.Target)
	}
	return "no host uses it", nil
}

func (v *volume) delete(ctx context.Context) (string, error) {
	if _, err := v.release(ctx); err != nil {
		return "", err
	}
	if err := v.Delete(ctx); err != nil {
		return "", err
	}
	listed, err := v.Client.Listed(ctx)
	if err != nil {
		return "", err
	}
	if _, ok := listed[v.ID]; ok {
		return "", fmt.Errorf("volume %s is still listed", v.ID)
	}
	return "gone; listed no more", nil
}

// room is the size of the mounted file system, or of the device, as the kernel tells it.
func (v *volume) room() (int64, error) {
	if v.Block {
		return harness.DeviceBytes(v.Target)
	}
	var s unix.Statfs_t
	if err := unix.Statfs(v.Target, &s); err != nil {
		return 0, fmt.Errorf("look at %s: %w", v.Target, err)
	}
	return int64(s.Blocks) * s.Bsize, nil
}
