package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// hand does with bare system calls what a driver cannot do without, with the same fsyncs. Its folder lies beside the
// driver's datastore.
type hand struct {
	path    string
	records *os.File
}

// handBytes are those of a mark, as large as the driver's.
const handBytes = 600

func newHand(at place, made int) (*hand, error) {
	h := &hand{path: filepath.Join(at.path, fmt.Sprintf("hand-%d", made))}
	for _, dir := range []string{h.path, h.join("tmp"), h.join("volumes"), h.join("trash"), h.join("mounts")} {
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

// image makes a volume's folder with a sparse image and a mark, durably, between the two records of it. With a file
// system it is made through a loop device.
func (h *hand) image(i int, fsType string, bytes int64) error {
	if err := h.record(); err != nil {
		return err
	}
	dir := h.join("tmp", name(i))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	image, err := os.OpenFile(filepath.Join(dir, "disk.img"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = image.Close() }() // synced below
	if err := image.Truncate(bytes); err != nil {
		return err
	}
	if fsType != "" {
		if err := mkfsThroughLoop(image, fsType); err != nil {
			return err
		}
	}
	if err := errors.Join(mark(dir), image.Sync(), syncFolder(dir)); err != nil {
		return err
	}
	return errors.Join(h.move(i, "tmp", "volumes"), h.record())
}

// tree makes a volume's folder with a directory and a mark, durably, between the two records of it.
func (h *hand) tree(i int) error {
	dir := h.join("tmp", name(i))
	return errors.Join(h.record(), os.Mkdir(dir, 0o700), os.Mkdir(filepath.Join(dir, "data"), 0o700), mark(dir),
		syncFolder(filepath.Join(dir, "data")), syncFolder(dir), h.move(i, "tmp", "volumes"), h.record())
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

// up attaches the image of a volume that was made by hand, and mounts and binds it where it has a file system.
func (h *hand) up(i int, fsType string) (*os.File, error) {
	image, err := os.OpenFile(h.join("volumes", name(i), "disk.img"), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = image.Close() }() // the device has it
	device, err := attach(image)
	if err != nil {
		return nil, err
	}
	return device, h.mount(i, device.Name(), fsType)
}

// mount mounts and binds a device; a raw one's node is bound to a file.
func (h *hand) mount(i int, device, fsType string) error {
	staging, target := h.join("mounts", name(i)), h.join("mounts", name(i)+"-target")
	if fsType == "" {
		f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		return errors.Join(f.Close(), unix.Mount(device, target, "", unix.MS_BIND, ""))
	}
	return errors.Join(os.Mkdir(staging, 0o700), os.Mkdir(target, 0o700),
		unix.Mount(device, staging, fsType, unix.MS_NOSUID|unix.MS_NODEV, "discard"), unix.Mount(staging, target, "", unix.MS_BIND, ""))
}

// down undoes up.
func (h *hand) down(i int, device *os.File, fsType string) error {
	staging, target := h.join("mounts", name(i)), h.join("mounts", name(i)+"-target")
	err := errors.Join(unix.Unmount(target, 0), os.Remove(target))
	if fsType != "" {
		err = errors.Join(err, unix.Unmount(staging, 0), os.Remove(staging))
	}
	return errors.Join(err, detach(device))
}

// bind binds a tree to its staging place, and that to its target.
func (h *hand) bind(i int) error {
	staging, target := h.join("mounts", name(i)), h.join("mounts", name(i)+"-target")
	return errors.Join(os.Mkdir(staging, 0o700), os.Mkdir(target, 0o700),
		unix.Mount(h.join("volumes", name(i), "data"), staging, "", unix.MS_BIND, ""), unix.Mount(staging, target, "", unix.MS_BIND, ""))
}

// unbind undoes bind.
func (h *hand) unbind(i int) error {
	staging, target := h.join("mounts", name(i)), h.join("mounts", name(i)+"-target")
	return errors.Join(unix.Unmount(target, 0), os.Remove(target), unix.Unmount(staging, 0), os.Remove(staging))
}
