package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/linux/quota"
)

// hand does with bare system calls what a driver cannot do without, with the same fsyncs. Its folder lies beside the
// driver's datastore.
type hand struct {
	path    string
	records *os.File
	project quota.ID
}

// handBytes are those of a mark, as large as the driver's.
const handBytes = 600

// firstProject and those behind it are far from the driver's.
const firstProject = 1000

func newHand(at place, made int) (*hand, error) {
	h := &hand{path: filepath.Join(at.path, fmt.Sprintf("hand-%d", made)), project: firstProject}
	for _, dir := range []string{h.path, h.join("tmp"), h.join("volumes"), h.join("trash"), h.join("mounts"), h.join("stage")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
	}
	var err error
	if h.records, err = os.OpenFile(h.join("records"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	_, err = h.records.Write(make([]byte, 64*kib))
	return h, errors.Join(err, h.records.Sync())
}

func (h *hand) close() error { return h.records.Close() }

func (h *hand) join(names ...string) string {
	return filepath.Join(append([]string{h.path}, names...)...)
}

func name(i int) string { return fmt.Sprintf("pvc-%d", i) }

// record makes one record durable: a page of a file that has its space, and one fdatasync(2).
func (h *hand) record() error {
	if _, err := h.records.WriteAt(make([]byte, 4*kib), 0); err != nil {
		return err
	}
	return unix.Fdatasync(int(h.records.Fd()))
}

// make makes a volume durably, between the two records of it.
func (h *hand) make(i int, k kind) error {
	dir := h.join("tmp", name(i))
	if err := errors.Join(h.record(), os.Mkdir(dir, 0o700)); err != nil {
		return err
	}
	content := h.image
	if k.tree {
		content = h.tree
	}
	if err := content(dir, k); err != nil {
		return err
	}
	return errors.Join(syncFolder(dir), h.move(i, "tmp", "volumes"), h.record())
}

// image makes a sparse image and a mark. A file system is made through a loop device.
func (h *hand) image(dir string, k kind) error {
	image, err := os.OpenFile(filepath.Join(dir, "disk.img"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = image.Close() }() // synced below
	if err := image.Truncate(k.claim.Bytes); err != nil {
		return err
	}
	if !k.claim.Block {
		if err := mkfsThroughLoop(image, k.claim.Filesystem); err != nil {
			return err
		}
	}
	return errors.Join(mark(dir), image.Sync())
}

// tree makes a directory and a mark.
func (h *hand) tree(dir string, k kind) error {
	path := filepath.Join(dir, "data")
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	data, err := os.Open(path)
	if err != nil {
		return err
	}
	if k.limited {
		h.project++
		ctx := context.Background()
		err = errors.Join(quota.SetProject(ctx, data, h.project), quota.SetLimit(ctx, data, h.project, k.claim.Bytes))
	}
	return errors.Join(err, mark(dir), data.Sync(), data.Close())
}

// remove removes a volume durably.
func (h *hand) remove(i int) error {
	return errors.Join(h.move(i, "volumes", "trash"), os.RemoveAll(h.join("trash", name(i))))
}

// announce makes the record and the stage record that stand before a volume is used, and the two writings that follow.
func (h *hand) announce(i int) error {
	if err := h.record(); err != nil {
		return err
	}
	f, err := os.OpenFile(h.join("stage", name(i)), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 8*kib))
	err = errors.Join(err, f.Sync(), f.Close(), syncFolder(h.join("stage")))
	return errors.Join(err, h.stageRecord(i), h.stageRecord(i))
}

// stageRecord writes a stage record that is there.
func (h *hand) stageRecord(i int) error {
	f, err := os.OpenFile(h.join("stage", name(i)), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, 4*kib), 0)
	return errors.Join(err, unix.Fdatasync(int(f.Fd())), f.Close())
}

// retract undoes announce.
func (h *hand) retract(i int) error {
	return errors.Join(h.stageRecord(i), h.record(), h.stageRecord(i), os.Remove(h.join("stage", name(i))))
}

// life does all of a volume's life: what the driver's calls change, with its ten records.
func (h *hand) life(i int, k kind) error {
	if err := errors.Join(h.make(i, k), h.record(), h.announce(i)); err != nil {
		return err
	}
	device, err := h.up(i, k)
	if err != nil {
		return err
	}
	return errors.Join(h.down(i, device, k), h.retract(i), h.record(), h.record(), h.remove(i), h.record(), h.record(), h.record())
}

// move gives a volume's folder another place, durably.
func (h *hand) move(i int, from, to string) error {
	return errors.Join(os.Rename(h.join(from, name(i)), h.join(to, name(i))), syncFolder(h.join(to)), syncFolder(h.join(from)))
}

func mark(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "meta.json"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, handBytes))
	return errors.Join(err, f.Sync(), f.Close())
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func mkfsThroughLoop(image *os.File, fsType string) error {
	device, err := attach(image)
	if err != nil {
		return err
	}
	return errors.Join(mkfs(fsType, device.Name()), detach(device))
}

// mkfs runs the tool that the driver runs with its options, but for the sector size, which is the device's own.
func mkfs(fsType, path string) error {
	var argv []string
	switch fsType {
	case "ext4":
		argv = []string{
			"mke2fs", "-q", "-t", "ext2", "-b", "4096", "-I", "256", "-i", "16384", "-m", "0", "-e", "remount-ro",
			"-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard,assume_storage_prezeroed=1",
			"-O", "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super," +
				"large_file,huge_file,dir_nlink,extra_isize,metadata_csum",
			"-U", uuid.NewString(), path,
		}
	default:
		return fmt.Errorf("no options for %s", fsType)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "MKE2FS_CONFIG=/dev/null")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", argv[0], err, text)
	}
	return nil
}

// fsyncs measures the cheapest durable write of a folder's file system.
func fsyncs(folder string) (latency, error) {
	path := filepath.Join(folder, "fsyncs")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return latency{}, err
	}
	page := make([]byte, 4*kib)
	_, err = f.Write(page)
	err = errors.Join(err, f.Sync())
	var took []time.Duration
	for range 200 {
		began := time.Now()
		_, write := f.WriteAt(page, 0)
		err = errors.Join(err, write, unix.Fdatasync(int(f.Fd())))
		took = append(took, time.Since(began))
	}
	return sum(took), errors.Join(err, f.Close(), os.Remove(path))
}

// up makes a volume usable: an image is attached and, where it has a file system, mounted and bound, else its device
// node is bound; a directory is bound twice.
func (h *hand) up(i int, k kind) (device *os.File, err error) {
	if k.tree {
		return nil, h.mount(i, h.join("volumes", name(i), "data"), "", unix.MS_BIND, "")
	}
	image, err := os.OpenFile(h.join("volumes", name(i), "disk.img"), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = image.Close() }() // the device has it
	if device, err = attach(image); err != nil {
		return nil, err
	}
	if !k.claim.Block {
		return device, h.mount(i, device.Name(), k.claim.Filesystem, unix.MS_NOSUID|unix.MS_NODEV, "discard")
	}
	_, target := h.mounts(i)
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return device, err
	}
	return device, errors.Join(f.Close(), unix.Mount(device.Name(), target, "", unix.MS_BIND, ""))
}

func (h *hand) mounts(i int) (staging, target string) {
	return h.join("mounts", name(i)), h.join("mounts", name(i)+"-target")
}

// mount mounts something for staging and binds that to the target.
func (h *hand) mount(i int, source, fsType string, flags uintptr, options string) error {
	staging, target := h.mounts(i)
	return errors.Join(os.Mkdir(staging, 0o700), os.Mkdir(target, 0o700),
		unix.Mount(source, staging, fsType, flags, options), unix.Mount(staging, target, "", unix.MS_BIND, ""))
}

// down undoes up.
func (h *hand) down(i int, device *os.File, k kind) error {
	staging, target := h.mounts(i)
	err := errors.Join(unix.Unmount(target, 0), os.Remove(target))
	if !k.claim.Block {
		err = errors.Join(err, unix.Unmount(staging, 0), os.Remove(staging))
	}
	if device != nil {
		err = errors.Join(err, detach(device))
	}
	return err
}
