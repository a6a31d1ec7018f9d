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

func (s directoryStorage) Camera() harness.Camera {
	// What lies under the disk's folder is also what is mounted from it: the images' loop devices.
	return harness.Camera{Under: []string{filepath.Dir(s.Path)}, Files: []string{s.Path}}
}

func (s directoryStorage) Bytes() int64 { return poolBytes }

// CopiesInUse tells that files can share blocks: ioctl_ficlone(2).
func (s directoryStorage) CopiesInUse() bool { return s.Type != "ext4" }

// CopiesTrees tells that sub-directories are subvolumes.
func (s directoryStorage) CopiesTrees() bool { return s.Type == "btrfs" }

// Wipes tells that the file system doesn't copy on write.
func (s directoryStorage) Wipes() bool { return s.Type != "btrfs" }

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

func (s directoryStorage) Content(id string) (string, error) {
	folder, err := s.folder(id)
	return filepath.Join(folder, "disk.img"), err
}

func (s directoryStorage) Allocated(id string) (int64, error) {
	path, err := s.Content(id)
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
	content, err := s.Content(id)
	check(t, err)
	// While the pool is frozen no write reaches the image, and reading goes on.
	thaw := s.Freeze(t)
	err = harness.Run("cp", "--sparse=always", content, to)
	thaw()
	check(t, err)
}

func (s directoryStorage) Foreign(t testing.TB) []string {
	t.Helper()
	outside := harness.Dir(t)
	put := func(path string, bytes int64) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := (harness.Data{Seed: path, Bytes: bytes}).WriteFile(path); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, path string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
	}
	put(filepath.Join(outside, "secret", "disk.img"), 1<<20)
	put(filepath.Join(outside, "secret", "meta.json"), 100)
	mine := filepath.Join(s.Path, "home of somebody")
	put(filepath.Join(mine, "thesis.txt"), 1<<20)
	put(filepath.Join(mine, ".hidden", "deep", "file"), 10)
	link("/", filepath.Join(mine, "root"))
	volumes := filepath.Join(s.Path, "volumes")
	put(filepath.Join(volumes, "foreign", "disk.img"), 1<<20)
	put(filepath.Join(volumes, "pvc-00000000-0000-4000-8000-000000000000-deadbeef", "disk.img"), 1<<20)
	put(filepath.Join(volumes, "pvc-11111111-1111-4111-8111-111111111111-deadbeef", "meta.json"), 4096)
	put(filepath.Join(volumes, "a file"), 10)
	link(filepath.Join(outside, "secret"), filepath.Join(volumes, "evil"))
	link(filepath.Join(outside, "secret"), filepath.Join(volumes, "pvc-22222222-2222-4222-8222-222222222222-deadbeef"))
	return []string{
		outside, mine, filepath.Join(volumes, "foreign"), filepath.Join(volumes, "a file"), filepath.Join(volumes, "evil"),
		filepath.Join(volumes, "pvc-00000000-0000-4000-8000-000000000000-deadbeef"),
		filepath.Join(volumes, "pvc-11111111-1111-4111-8111-111111111111-deadbeef"),
		filepath.Join(volumes, "pvc-22222222-2222-4222-8222-222222222222-deadbeef"),
	}
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
