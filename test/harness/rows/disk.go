package rows

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

const (
	diskMiB = 1 << 20
	// diskTaken is what of a disk is not for volumes: the metadata, and a mebibyte at either end.
	diskTaken = 18 * diskMiB
)

// disk is a datastore of type disk whose volumes are partitions of one disk.
type disk struct {
	// sector is the disk's logical sector size, bytes what it has for volumes.
	sector int
	bytes  int64
}

func (d disk) Name() string { return "disk-" + strconv.Itoa(d.sector) }

func (disk) Can() Can {
	return Can{
		Provisioning: []string{"thick"}, Granularity: diskMiB, Clones: true,
		Copiers: []string{"lvm"}, Shared: true, Wipes: true, Behind: true,
	}
}

func (d disk) sized(bytes int64) Row { return disk{sector: d.sector, bytes: bytes} }

func (d disk) Setup(t testing.TB) Storage {
	t.Helper()
	// The disk is a file on a file system of its own, which can be frozen.
	s := &diskStorage{disk: d, below: harness.NewDisk(t, "ext4", d.bytes+d.bytes/4)}
	s.image = filepath.Join(s.below.Path, "disk.img")
	sparse(t, s.image, d.bytes+diskTaken)
	s.link = plugged(t, s.image, d.sector)
	return s
}

// diskStorage is a disk.
type diskStorage struct {
	disk
	below *harness.Disk
	// image is the file that is the disk, link the path that leads to its device wherever it is attached.
	image, link string
	// others are disks of somebody else that the datastore was given too.
	others []string
}

// plugged attaches an image as a disk, for as long as the test lasts, and returns a path that leads to it.
func plugged(t testing.TB, image string, sector int) (link string) {
	t.Helper()
	link, err := harness.DeviceLink()
	check(t, err)
	check(t, plug(image, link, sector))
	t.Cleanup(func() { check(t, unplug(link)) })
	return link
}

// plug attaches an image under a number that chance gives.
func plug(image, link string, sector int) error {
	device, err := harness.AttachDisk(image, sector)
	if err != nil {
		return err
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(device, link)
}

// unplug detaches what a link leads to. What is in use is an error.
func unplug(link string) error {
	device, err := os.Readlink(link)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(harness.DetachDisk(device), os.Remove(link))
}

func (s *diskStorage) Datastore(name string) harness.Datastore {
	return harness.Datastore{Name: name, Spec: harness.Fields{
		"type": "disk", "disk": harness.Fields{"devices": append([]string{s.link}, s.others...)},
	}}
}

func (s *diskStorage) Initialized(name string) harness.Datastore { return s.Datastore(name) }

// Mistakes of a disk's settings.
func (s *diskStorage) Mistakes(name string) []Mistake {
	with := func(devices ...string) harness.Datastore {
		return s.Datastore(name).With(devices, "disk", "devices")
	}
	return []Mistake{
		{"a disk twice", s.Datastore(name), name},
		{"no disks", with(), "spec.disk.devices"},
		{"a name that the kernel gives", with("/dev/sdb"), "/dev/sdb"},
		{"a file", with("/srv/disk.img"), "/srv/disk.img"},
		{"one disk two times", with("/dev/disk/by-id/a", "/dev/disk/by-id/a"), "/dev/disk/by-id/a"},
	}
}

func (s *diskStorage) Camera() harness.Camera {
	return harness.Camera{Under: []string{s.below.Path}, Views: []harness.View{harness.PartitionView(s.link)}}
}

func (s *diskStorage) Bytes() int64 { return s.bytes }

func (s *diskStorage) Used() (int64, error) {
	free, err := s.Free()
	return s.bytes - free, err
}

func (s *diskStorage) Free() (int64, error) {
	gaps, err := s.gaps()
	var sum int64
	for _, g := range gaps {
		sum += g.bytes
	}
	return sum, err
}

// gap is a part of the disk where no partition lies, in bytes.
type gap struct{ start, bytes int64 }

// gaps reads the table.
func (s *diskStorage) gaps() ([]gap, error) {
	table, err := harness.ReadGPT(s.link, false)
	if errors.Is(err, harness.ErrNoGPT) {
		return []gap{{diskTaken - diskMiB, s.bytes}}, nil
	}
	if err != nil {
		return nil, err
	}
	used := slices.Clone(table.Entries)
	slices.SortFunc(used, func(a, b harness.GPTEntry) int { return int(int64(a.First) - int64(b.First)) })
	end := s.bytes + diskTaken - diskMiB
	var out []gap
	at := int64(diskTaken - diskMiB)
	for _, e := range append(used, harness.GPTEntry{First: uint64(end / table.Block)}) {
		if start := int64(e.First) * table.Block; start > at {
			out = append(out, gap{at, start - at})
		}
		at = max(at, int64(e.Last+1)*table.Block)
	}
	return out, nil
}

func (s *diskStorage) Below(t testing.TB, d harness.Data, there bool) error {
	t.Helper()
	check(t, harness.Run("sync", s.link))
	found, err := d.In(s.image)
	if err == nil && found != there {
		err = fmt.Errorf("data %q found on the disk: %t", d.Seed, found)
	}
	return err
}

func (s *diskStorage) Volumes() ([]string, error) {
	return s.named(func(m diskMark) (string, bool) { return m.backendName(), m.Phase == "Whole" || m.Phase == "Retained" })
}

func (s *diskStorage) Archived() ([]string, error) {
	return s.named(func(m diskMark) (string, bool) { return m.Name, m.Phase == "Archived" })
}

func (s *diskStorage) named(name func(diskMark) (string, bool)) ([]string, error) {
	marks, err := s.marks()
	var names []string
	for _, m := range marks {
		if n, ok := name(m); ok {
			names = append(names, n)
		}
	}
	return names, err
}

func (s *diskStorage) TakeFromArchive(name string) error {
	marks, err := s.marks()
	if err != nil {
		return err
	}
	for _, m := range marks {
		if m.Phase == "Archived" && m.Name == name {
			return s.sfdisk("", "--delete", s.link, strconv.Itoa(m.number))
		}
	}
	return fmt.Errorf("nothing of %s is archived", name)
}

func (s *diskStorage) Sweep() error {
	marks, err := s.marks()
	for _, m := range marks {
		if m.Phase == "Whole" || m.Phase == "Retained" || m.Phase == "Archived" {
			err = errors.Join(err, s.clearMark(m.number), s.sfdisk("", "--delete", s.link, strconv.Itoa(m.number)))
		}
	}
	return err
}

func (s *diskStorage) mark(id string) (diskMark, error) {
	marks, err := s.marks()
	if err != nil {
		return diskMark{}, err
	}
	for _, m := range marks {
		if m.ID == id && m.Phase != "Remainder" && m.Phase != "Making" {
			return m, nil
		}
	}
	return diskMark{}, fmt.Errorf("no partition of volume %s among %v", id, marks)
}

func (s *diskStorage) Content(id string) (Content, error) {
	m, err := s.mark(id)
	if err != nil {
		return Content{}, err
	}
	device, err := harness.AttachPart(s.image, s.sector, m.Span.Start, m.Span.Bytes)
	return Content{Path: device, Close: func() error {
		return errors.Join(harness.Run("sync", device), harness.DetachDisk(device))
	}}, err
}

func (s *diskStorage) Allocated(id string) (int64, error) {
	m, err := s.mark(id)
	return m.Span.Bytes, err
}

func (s *diskStorage) Instant(t testing.TB, id, to string) {
	t.Helper()
	m, err := s.mark(id)
	check(t, err)
	// While what lies below is frozen no write reaches the disk, and reading goes on.
	thaw := s.below.Freeze(t)
	err = harness.Run("dd", "if="+s.image, "of="+to, "bs=1M", fmt.Sprintf("skip=%d", m.Span.Start/diskMiB),
		fmt.Sprintf("count=%d", m.Span.Bytes/diskMiB), "conv=sparse", "status=none")
	thaw()
	check(t, err)
	check(t, os.Truncate(to, m.Span.Bytes))
}

// sfdisk changes the disk's table as an administrator does, and leaves the kernel's partitions alone.
func (s *diskStorage) sfdisk(script string, args ...string) error {
	return harness.RunInput(script, "sfdisk", append([]string{"--quiet", "--no-reread", "--no-tell-kernel", "--wipe=never", "--wipe-partitions=never"}, args...)...)
}

func (s *diskStorage) Foreign(t testing.TB) harness.Camera {
	t.Helper()
	dir := harness.Dir(t)
	formatted, parted := filepath.Join(dir, "formatted"), filepath.Join(dir, "parted")
	sparse(t, formatted, 64*diskMiB)
	check(t, harness.Mkfs("ext4", formatted))
	sparse(t, parted, 64*diskMiB)
	script := "label: gpt\n"
	for _, name := range Planted() {
		script += fmt.Sprintf("size=10MiB, name=%q\n", (name + "-deadbeef")[:36])
	}
	check(t, harness.RunInput(script, "sfdisk", "--quiet", parted))
	for _, image := range []string{formatted, parted} {
		s.others = append(s.others, plugged(t, image, 512))
	}
	return harness.Camera{Files: []string{dir}}
}

func (s *diskStorage) Fill(t testing.TB, left int64) (empty func()) {
	t.Helper()
	blank := false
	if _, err := harness.ReadGPT(s.link, false); errors.Is(err, harness.ErrNoGPT) {
		blank = true
		check(t, s.sfdisk("label: gpt\n", s.link))
	}
	gaps, err := s.gaps()
	check(t, err)
	free, err := s.Free()
	check(t, err)
	slices.SortFunc(gaps, func(a, b gap) int { return int((b.bytes - a.bytes) >> 20) })
	script := ""
	for _, g := range gaps {
		take := min(g.bytes, free-left) / diskMiB * diskMiB
		if take <= 0 {
			continue
		}
		// Behind what is left free.
		block := int64(s.sector)
		script += fmt.Sprintf("start=%d, size=%d, name=ballast\n", (g.start+g.bytes-take)/block, take/block)
		free -= take
	}
	check(t, s.sfdisk(script, "--append", s.link))
	return func() {
		t.Helper()
		check(t, harness.Eventually(t.Context(), wiping, s.idle))
		if blank {
			check(t, s.writeEnds(make([]byte, diskMiB), make([]byte, diskMiB)))
			return
		}
		table, err := harness.ReadGPT(s.link, false)
		check(t, err)
		for _, e := range table.Entries {
			if e.Name == "ballast" {
				check(t, s.sfdisk("", "--delete", s.link, strconv.Itoa(e.Number)))
			}
		}
	}
}

// wiping is how long the driver may take to wipe what was deleted on a disk that is nearly full.
const wiping = 2 * time.Minute

// idle is an error while the driver has work of its own to do on the table: it and sfdisk have no lock in common, so that the one's
// writing may undo the other's.
func (s *diskStorage) idle() error {
	marks, err := s.marks()
	for _, m := range marks {
		if m.Phase == "Remainder" {
			return fmt.Errorf("what is left of volume %s waits for its wipe", m.ID)
		}
	}
	return err
}

func (s *diskStorage) TakeAway(t testing.TB) (bringBack func()) {
	t.Helper()
	check(t, unplug(s.link))
	return func() {
		t.Helper()
		check(t, plug(s.image, s.link, s.sector))
	}
}

// Breakages of a disk.
func (s *diskStorage) Breakages() []Breakage {
	return []Breakage{
		{Name: "frozen", Hangs: true, Serves: true, Break: func(t testing.TB) func() { return s.below.Freeze(t) }},
		{Name: "pulled", Idle: true, Break: func(t testing.TB) func() { return s.TakeAway(t) }},
		{Name: "table gone", Break: func(t testing.TB) func() {
			first, last, err := s.readEnds()
			check(t, err)
			check(t, s.writeEnds(make([]byte, len(first)), make([]byte, len(last))))
			return func() { check(t, s.writeEnds(first, last)) }
		}},
		{Name: "table of a stranger", Break: func(t testing.TB) func() {
			first, last, err := s.readEnds()
			check(t, err)
			check(t, s.sfdisk("label: gpt\nsize=32MiB\n", s.link))
			return func() { check(t, s.writeEnds(first, last)) }
		}},
	}
}

// Losses of a partition.
func (s *diskStorage) Losses() []Loss {
	// change alters the table, which is put back in the end.
	change := func(how func(number int, m diskMark) (string, []string)) func(testing.TB, string) func() {
		return func(t testing.TB, id string) func() {
			t.Helper()
			m, err := s.mark(id)
			check(t, err)
			first, last, err := s.readEnds()
			check(t, err)
			script, args := how(m.number, m)
			check(t, s.sfdisk(script, args...))
			return func() {
				t.Helper()
				check(t, s.writeEnds(first, last))
			}
		}
	}
	return []Loss{
		{Name: "it is gone", Gone: true, Do: change(func(n int, _ diskMark) (string, []string) {
			return "", []string{"--delete", s.link, strconv.Itoa(n)}
		})},
		{Name: "it was cut short", Do: change(func(n int, m diskMark) (string, []string) {
			return fmt.Sprintf(",%d\n", m.Span.Bytes/2/int64(s.sector)), []string{"-N", strconv.Itoa(n), s.link}
		})},
		{Name: "another partition stands in its place", Do: change(func(n int, _ diskMark) (string, []string) {
			return "", []string{"--part-uuid", s.link, strconv.Itoa(n), "00000000-1111-4222-8333-444444444444"}
		})},
	}
}
