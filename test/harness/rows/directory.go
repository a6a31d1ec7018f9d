package rows

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// poolBytes is the size of a pool: sparse, so it costs what is written.
const poolBytes = 4 << 30

// directory is a datastore of type directory on a file system of its own.
type directory struct{ fs string }

func (d directory) Name() string { return "directory-" + d.fs }

func (d directory) Can() Can { return directoryCan(d.fs) }

func (d directory) Setup(t testing.TB) Storage {
	t.Helper()
	return directoryStorage{harness.NewDisk(t, d.fs, poolBytes)}
}

// directoryStorage is the root of a mounted disk.
type directoryStorage struct{ *harness.Disk }

func (s directoryStorage) Datastore(name string) harness.Datastore {
	return harness.Directory(name, s.Path)
}

func (s directoryStorage) Initialized(name string) harness.Datastore {
	return s.Datastore(name).With(true, "directory", "initialize")
}

func (s directoryStorage) Can() Can { return directoryCan(s.Type) }

// directoryCan is what volumes on a file system can be.
func directoryCan(fs string) Can {
	return Can{
		Provisioning: []string{"thin", "thick"}, Granularity: 4096, Images: true,
		Subdirectories: true, CopiesTrees: fs == "btrfs", // where they are subvolumes
		Snapshots: true, Clones: true, CopiesInUse: fs != "ext4", Copiers: []string{"xfs"}, // ioctl_ficlone(2)
		Shares: fs != "ext4", Wipes: fs != "btrfs", // which copies on write
	}
}

func (s directoryStorage) Camera() harness.Camera {
	// What lies under the disk's folder is also what is mounted from it: the images' loop devices.
	return harness.Camera{Under: []string{filepath.Dir(s.Path)}, Files: []string{s.Path}}
}

func (s directoryStorage) Bytes() int64 { return poolBytes }

func (s directoryStorage) Below(t testing.TB, d harness.Data, there bool) error {
	t.Helper()
	check(t, harness.Run("sync", "--file-system", s.Path))
	found, err := d.In(s.Image)
	if err == nil && found != there {
		err = fmt.Errorf("data %q found on the disk: %t", d.Seed, found)
	}
	return err
}

func (s directoryStorage) Volumes() ([]string, error) { return s.in("volumes") }

func (s directoryStorage) Archived() ([]string, error) { return s.in("archived") }

func (s directoryStorage) TakeFromArchive(name string) error {
	kept, err := s.Archived()
	if err != nil {
		return err
	}
	for _, k := range kept {
		if strings.Contains(k, name) {
			return os.RemoveAll(filepath.Join(s.Path, "archived", k))
		}
	}
	return fmt.Errorf("nothing of %s is among the archived %v", name, kept)
}

func (s directoryStorage) Sweep() error {
	var errs []error
	for _, folder := range []string{"volumes", "archived"} {
		names, err := s.in(folder)
		errs = append(errs, err)
		for _, name := range names {
			errs = append(errs, os.RemoveAll(filepath.Join(s.Path, folder, name)))
		}
	}
	return errors.Join(errs...)
}

func (s directoryStorage) in(folder string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.Path, folder))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// uidDigits stand behind the ID and a dash in the name of a volume's folder.
const uidDigits = 8

func (s directoryStorage) folder(id string) (string, error) {
	names, err := s.Volumes()
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if len(name) == len(id)+1+uidDigits && strings.HasPrefix(name, id+"-") {
			return filepath.Join(s.Path, "volumes", name), nil
		}
	}
	return "", fmt.Errorf("no folder of volume %s among %v", id, names)
}

func (s directoryStorage) Content(id string) (Content, error) {
	image, err := s.image(id)
	return Content{Path: image, Close: func() error { return nil }}, err
}

func (s directoryStorage) image(id string) (string, error) {
	folder, err := s.folder(id)
	return filepath.Join(folder, "disk.img"), err
}

func (s directoryStorage) Allocated(id string) (int64, error) {
	path, err := s.image(id)
	if err != nil {
		return 0, err
	}
	// Delayed allocation shows in st_blocks once it is written.
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	var stat unix.Stat_t
	err = errors.Join(file.Sync(), unix.Fstat(int(file.Fd()), &stat), file.Close())
	return stat.Blocks * 512, err
}

func (s directoryStorage) Instant(t testing.TB, id, to string) {
	t.Helper()
	content, err := s.image(id)
	check(t, err)
	// While the pool is frozen no write reaches the image, and reading goes on.
	thaw := s.Freeze(t)
	err = harness.Run("cp", "--sparse=always", content, to)
	thaw()
	check(t, err)
}

func (s directoryStorage) Fill(t testing.TB, left int64) (empty func()) {
	t.Helper()
	path := filepath.Join(s.Path, "ballast")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	check(t, errors.Join(s.ballast(file, left), file.Close()))
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// ballast lets a file grow until so many bytes are free. They are allocated, not written: the sandbox's memory is not
// needed for them. What the file system keeps for itself makes it take more than one step.
func (s directoryStorage) ballast(file *os.File, left int64) error {
	const least = 4 << 20
	for size, step := int64(0), int64(poolBytes); step >= least; {
		free, err := s.Free()
		if err != nil {
			return err
		}
		step = min(step, free-left)
		err = unix.Fallocate(int(file.Fd()), 0, size, step)
		switch {
		case step < least, errors.Is(err, unix.ENOSPC):
			step /= 2
			continue
		case err != nil:
			return fmt.Errorf("fill the pool up to %d bytes: %w", left, err)
		}
		size += step
		if err := file.Sync(); err != nil {
			return err
		}
	}
	return nil
}

func (s directoryStorage) TakeAway(t testing.TB) (bringBack func()) {
	t.Helper()
	check(t, s.Unmount())
	return func() {
		t.Helper()
		check(t, s.Mount(0))
	}
}
