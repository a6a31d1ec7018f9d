package rows

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// named gives the logical volume of a volume's ID.
func (s *lvmStorage) named(id string) (string, error) {
	names, err := s.Volumes()
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if len(name) == len(id)+1+uidDigits && strings.HasPrefix(name, id+"-") {
			return name, nil
		}
	}
	return "", fmt.Errorf("no logical volume of volume %s among %v", id, names)
}

// mapped is the name that a logical volume has in device-mapper: a dash is doubled (lvm(8)).
func (s *lvmStorage) mapped(name string) string {
	return s.group + "-" + strings.ReplaceAll(name, "-", "--")
}

func (s *lvmStorage) active(name string) (bool, error) {
	all, err := harness.MappedDevices()
	_, is := all[s.mapped(name)]
	return is, err
}

func (s *lvmStorage) Content(id string) (Content, error) {
	name, err := s.named(id)
	if err != nil {
		return Content{}, err
	}
	return s.open(name)
}

// open activates a logical volume for as long as it is used.
func (s *lvmStorage) open(name string) (Content, error) {
	was, err := s.active(name)
	if err != nil {
		return Content{}, err
	}
	c := Content{Path: "/dev/mapper/" + s.mapped(name), Close: func() error { return nil }}
	if was {
		return c, nil
	}
	c.Close = func() error { return s.run("lvchange", "--activate", "n", s.group+"/"+name) }
	return c, s.run("lvchange", "--activate", "y", "--ignoreactivationskip", s.group+"/"+name)
}

func (s *lvmStorage) Allocated(id string) (bytes int64, err error) {
	name, err := s.named(id)
	if err != nil {
		return 0, err
	}
	c, err := s.open(name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if !s.thin {
		return harness.DeviceBytes(c.Path)
	}
	// What is written shows once it is on the device.
	if err := harness.Run("sync", c.Path); err != nil {
		return 0, err
	}
	out, err := harness.Tool("dmsetup", "status", s.mapped(name)) // 0 LENGTH thin MAPPED HIGHEST
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(out)
	if len(fields) < 4 {
		return 0, fmt.Errorf("the thin volume %s is %q", name, out)
	}
	sectors, err := strconv.ParseInt(fields[3], 10, 64)
	return sectors * 512, err
}

// snapshotID is the number of the thin snapshot that Instant makes: LVM counts from 1.
const snapshotID = 16_000_000

func (s *lvmStorage) Instant(t testing.TB, id, to string) {
	t.Helper()
	name, err := s.named(id)
	check(t, err)
	mapped := s.mapped(name)
	// Not LVM's snapshot, which would have the file system write all it has first.
	check(t, harness.DMSetup("suspend", "--nolockfs", mapped))
	if s.thin {
		err = s.copyThin(mapped, to)
	} else {
		err = s.copyExtents(mapped, to)
		err = errors.Join(err, harness.DMSetup("resume", mapped))
	}
	check(t, err)
}

// copyThin copies a thin volume that is suspended through a snapshot that LVM doesn't know of, and resumes it.
func (s *lvmStorage) copyThin(mapped, to string) error {
	pool := s.group + "-" + thinPool + "-tpool"
	table, err := harness.Tool("dmsetup", "table", mapped) // 0 LENGTH thin POOL ID
	fields := strings.Fields(table)
	if err == nil && len(fields) < 5 {
		err = fmt.Errorf("the table of %s is %q", mapped, table)
	}
	if err != nil {
		return errors.Join(err, harness.DMSetup("resume", mapped))
	}
	id := strconv.Itoa(snapshotID)
	err = harness.DMSetup("message", pool, "0", "create_snap", id, fields[4])
	if err := errors.Join(err, harness.DMSetup("resume", mapped)); err != nil {
		return err
	}
	instant := s.group + "-instant"
	err = harness.DMSetup("create", instant, "--table", fmt.Sprintf("0 %s thin /dev/mapper/%s %s", fields[1], pool, id))
	if err == nil {
		err = errors.Join(harness.Run("cp", "--sparse=always", "/dev/mapper/"+instant, to), harness.DMSetup("remove", "--retry", instant))
	}
	return errors.Join(err, harness.DMSetup("message", pool, "0", "delete", id))
}

// copyExtents copies a suspended linear volume from the disk that it lies on.
func (s *lvmStorage) copyExtents(mapped, to string) error {
	table, err := harness.Tool("dmsetup", "table", mapped)
	if err != nil {
		return err
	}
	for line := range strings.Lines(table) {
		var first, sectors, at int64
		var device string
		if _, err := fmt.Sscanf(line, "%d %d linear %s %d", &first, &sectors, &device, &at); err != nil {
			return fmt.Errorf("the table of %s is %q: %w", mapped, table, err)
		}
		err := harness.Run("dd", "if="+s.disk.Path, "of="+to, "iflag=direct", "conv=notrunc,sparse", "bs=64k", "status=none",
			fmt.Sprintf("skip=%d", at*512/(64<<10)), fmt.Sprintf("seek=%d", first*512/(64<<10)), fmt.Sprintf("count=%d", sectors*512/(64<<10)))
		if err == nil {
			err = extend(to, (first+sectors)*512)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// extend makes a file at least that large: holes at the end of a copy are no part of it yet.
func extend(path string, bytes int64) error {
	info, err := os.Stat(path)
	if err == nil && info.Size() < bytes {
		err = os.Truncate(path, bytes)
	}
	return err
}

func (s *lvmStorage) Foreign(t testing.TB) harness.Camera {
	t.Helper()
	names := []string{"foreign", "evil", Planted()[0] + "-deadbeef", Planted()[1] + "-deadbeef", Planted()[2]}
	var views []harness.View
	for i, name := range names {
		args := []string{"--yes", "--name", name, "--addtag", "somebody"}
		if s.thin && i%2 == 0 {
			args = append(args, "--thin", "--virtualsize", "16m", s.group+"/"+thinPool)
		} else {
			args = append(args, "--size", "16m", s.group)
		}
		if i == 0 {
			args = append([]string{"--addtag", "datastore-csi.io"}, args...)
		}
		check(t, s.run("lvcreate", args...))
		path := "/dev/mapper/" + s.mapped(name)
		check(t, (harness.Data{Seed: name, Bytes: 8 << 20}).WriteDevice(path, 0))
		views = append(views, s.foreignView(name, path))
	}
	return harness.Camera{Views: views}
}

// foreignView shows a logical volume of somebody else: what LVM says of it, and what it holds.
func (s *lvmStorage) foreignView(name, path string) harness.View {
	return func(p harness.Photo) error {
		group, err := harness.ReadVolumeGroup(s.disk.Path)
		if err != nil {
			return err
		}
		p["somebody's "+name] = strings.Join(group.Sections["logical_volumes"][name], "; ")
		active, err := s.active(name)
		if err != nil || !active {
			return err
		}
		sum, err := harness.DeviceSum(path)
		p["somebody's "+name+" holds"] = sum
		return err
	}
}

func (s *lvmStorage) Fill(t testing.TB, left int64) (empty func()) {
	t.Helper()
	free, err := s.Free()
	check(t, err)
	bytes := (free - left) / extent * extent
	if s.thin {
		check(t, s.run("lvcreate", "--yes", "--name", "ballast", "--thin", "--virtualsize", inBytes(bytes), s.group+"/"+thinPool))
		check(t, harness.Run("dd", "if=/dev/zero", "of="+filepath.Join("/dev/mapper", s.group+"-ballast"), "bs=1M", "oflag=direct",
			fmt.Sprintf("count=%d", bytes>>20), "status=none"))
	} else {
		check(t, s.run("lvcreate", "--yes", "--wipesignatures", "n", "--zero", "n", "--name", "ballast", "--size", inBytes(bytes), s.group))
	}
	return func() {
		t.Helper()
		check(t, s.run("lvremove", "--yes", s.group+"/ballast"))
	}
}

func (s *lvmStorage) TakeAway(t testing.TB) (bringBack func()) {
	t.Helper()
	check(t, s.run("vgchange", "--activate", "n", s.group))
	check(t, s.disk.Detach())
	return func() {
		t.Helper()
		check(t, s.disk.Attach())
	}
}
