package rows

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// partition is a datastore of type partition on an empty file system.
type partition struct{ fs string }

func (p partition) Name() string { return "partition-" + p.fs }

func (p partition) Can() Can { return directoryCan(p.fs) }

func (p partition) Setup(t testing.TB) Storage {
	t.Helper()
	own := filepath.Join(harness.Dir(t), "own") // which is removed after the device, that may be mounted there
	s := &partitionStorage{Device: harness.NewDevice(t, poolBytes), fs: p.fs, own: own}
	check(t, s.mkfs()) // so that the driver's first look doesn't take long: that it makes one itself, its package's tests show
	return s
}

// partitionStorage is what a directory is, wherever a driver has mounted it. As long as none has, the administrator does when
// he must look.
type partitionStorage struct {
	*harness.Device
	fs string
	// own is where the administrator mounts it, seen where it was mounted last, guarded by mu.
	own string

	mu   sync.Mutex
	seen string
}

func (s *partitionStorage) Datastore(name string) harness.Datastore {
	return harness.Datastore{Name: name, Spec: harness.Fields{
		"type": "partition", "partition": harness.Fields{"device": s.Name, "fsType": s.fs, "provision": "IfEmpty"},
	}}
}

func (s *partitionStorage) Initialized(name string) harness.Datastore {
	return s.Datastore(name).With(true, "partition", "initialize")
}

// Mistakes of a partition's settings.
func (s *partitionStorage) Mistakes(name string) []Mistake {
	with := func(value any, field string) harness.Datastore {
		return s.Datastore(name).With(value, "partition", field)
	}
	return []Mistake{
		{"a device twice", s.Datastore(name), name},
		{"a device that is none", with("srv/x", "device"), "srv/x"},
		{"a device that may be another one tomorrow", with("/dev/sda1", "device"), "/dev/sda1"},
		{"an unknown file system", with("ntfs", "fsType"), "ntfs"},
		{"nothing to make", with("", "fsType"), "fsType"},
		{"a word that is none", with("Always", "provision"), "Always"},
	}
}

func (s *partitionStorage) Can() Can { return directoryCan(s.fs) }

// where is where the file system is mounted, or was last; "" where it never was.
func (s *partitionStorage) where() (string, error) {
	all, err := s.Mounted()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(all) > 0 {
		s.seen = all[0]
	}
	return s.seen, err
}

// at is where the file system is mounted, by the administrator where nobody else has mounted it.
func (s *partitionStorage) at() (string, error) {
	at, err := s.where()
	if err == nil && at == "" && s.Connected() {
		return s.own, s.mountOwn(0, "")
	}
	return at, err
}

// mountOwn mounts the file system for the administrator.
func (s *partitionStorage) mountOwn(flags uintptr, data string) error {
	if err := os.Mkdir(s.own, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return s.Mount(s.own, s.fs, flags, data)
}

func (s *partitionStorage) mkfs() error {
	var options []string
	if s.fs == "ext4" {
		options = []string{"-m", "0"} // nothing for root alone, as a disk for data is made
	}
	return harness.Mkfs(s.fs, s.Name, options...)
}

// view is the directory.
func (s *partitionStorage) view() directoryStorage {
	at, err := s.at()
	if err != nil {
		panic(fmt.Sprintf("the test's disk: %v", err))
	}
	return directoryStorage{&harness.Disk{Type: s.fs, Image: s.Image, Path: at}}
}

// Camera shows what is mounted, wherever that is by then.
func (s *partitionStorage) Camera() harness.Camera {
	return harness.Camera{Views: []harness.View{func(p harness.Photo) error {
		at, err := s.where()
		if err != nil || at == "" {
			return err
		}
		found, err := harness.Camera{Under: []string{at}, Files: []string{at}}.Take()
		maps.Copy(p, found)
		return err
	}}}
}

func (s *partitionStorage) Bytes() int64 { return poolBytes }

func (s *partitionStorage) Used() (int64, error) { return s.view().Used() }

func (s *partitionStorage) Free() (int64, error) { return s.view().Free() }

func (s *partitionStorage) Below(t testing.TB, d harness.Data, there bool) error {
	t.Helper()
	return s.view().Below(t, d, there)
}

func (s *partitionStorage) Volumes() ([]string, error) { return s.view().Volumes() }

func (s *partitionStorage) Archived() ([]string, error) { return s.view().Archived() }

func (s *partitionStorage) TakeFromArchive(name string) error { return s.view().TakeFromArchive(name) }

func (s *partitionStorage) Sweep() error { return s.view().Sweep() }

func (s *partitionStorage) Content(id string) (Content, error) { return s.view().Content(id) }

func (s *partitionStorage) Allocated(id string) (int64, error) { return s.view().Allocated(id) }

func (s *partitionStorage) Instant(t testing.TB, id, to string) {
	t.Helper()
	s.view().Instant(t, id, to)
}

// Losses are those of a directory. They are asked for before there is a driver, and happen after.
func (s *partitionStorage) Losses() []Loss {
	all := directoryStorage{&harness.Disk{}}.Losses()
	for i := range all {
		all[i].Do = func(t testing.TB, id string) func() {
			t.Helper()
			return s.view().Losses()[i].Do(t, id)
		}
	}
	return all
}

func (s *partitionStorage) Fill(t testing.TB, left int64) (empty func()) {
	t.Helper()
	return s.view().Fill(t, left)
}

// Foreign fills a file system of the administrator's, who unmounts it then. The camera finds it where it is mounted, or looks at it
// by itself.
func (s *partitionStorage) Foreign(t testing.TB) harness.Camera {
	t.Helper()
	check(t, s.mountOwn(0, ""))
	static := directoryStorage{&harness.Disk{Type: s.fs, Image: s.Image, Path: s.own}}.Foreign(t)
	check(t, harness.Unmount(s.own))
	var outside, inside []string
	for _, path := range static.Files {
		if rest, ok := strings.CutPrefix(path, s.own); ok {
			inside = append(inside, rest)
		} else {
			outside = append(outside, path)
		}
	}
	return harness.Camera{Files: outside, Views: []harness.View{func(p harness.Photo) error { return s.look(p, inside) }}}
}

// look photographs paths of the file system.
func (s *partitionStorage) look(p harness.Photo, inside []string) error {
	all, err := s.Mounted()
	if err != nil {
		return err
	}
	at := s.own
	if len(all) > 0 {
		at = all[0]
	} else {
		if err := s.mountOwn(unix.MS_RDONLY, map[string]string{"ext4": "noload", "xfs": "norecovery"}[s.fs]); err != nil {
			return err
		}
		defer func() { _ = harness.Unmount(s.own) }() // a later mount says so
	}
	var c harness.Camera
	for _, rest := range inside {
		c.Files = append(c.Files, at+rest)
	}
	found, err := c.Take()
	for name, text := range found {
		p[strings.ReplaceAll(name, at, "disk:")] = text
	}
	return err
}

// leaving is how long the driver may be busy with a disk that nobody uses.
const leaving = 30 * time.Second

func (s *partitionStorage) TakeAway(t testing.TB) (bringBack func()) {
	t.Helper()
	if _, err := s.where(); err != nil { // which is remembered
		t.Fatal(err)
	}
	check(t, harness.Eventually(t.Context(), leaving, s.Disconnect))
	return func() {
		t.Helper()
		check(t, s.Connect())
	}
}

// Breakages of a partition: what can happen to what is mounted, and to the disk.
func (s *partitionStorage) Breakages() []Breakage {
	var all []Breakage
	for i, b := range (directoryStorage{&harness.Disk{}}).Breakages() {
		if b.Name == "path is a link" || b.Name == "not mounted" {
			continue
		}
		b.Break = func(t testing.TB) func() { return s.view().Breakages()[i].Break(t) }
		all = append(all, b)
	}
	return append(all,
		Breakage{Name: "disk gone", Idle: true, Break: func(t testing.TB) func() { return s.TakeAway(t) }},
		Breakage{Name: "another disk in its place", Idle: true, Break: func(t testing.TB) func() {
			bringBack := s.TakeAway(t)
			other := harness.NewDevice(t, poolBytes)
			check(t, os.Symlink(other.Name, s.Name))
			return func() {
				used, err := other.Mounted()
				check(t, err)
				if sum, err := os.Stat(other.Image); err != nil || len(used) > 0 || sum.Size() != poolBytes {
					t.Errorf("the other disk: mounted on %v, %v", used, err)
				}
				check(t, os.Remove(s.Name))
				bringBack()
			}
		}},
	)
}
