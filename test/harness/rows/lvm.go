package rows

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

const (
	// extent is LVM's default, 4 MiB.
	extent = 4 << 20
	// thinPool is the name of the thin pool in the row that has one.
	thinPool = "thin"
)

// lvm is a datastore of type lvm on a volume group of its own, which an administrator made: with a thin pool, whose volumes are
// thin, or without.
type lvm struct {
	thin  bool
	bytes int64
}

// lvmRows are those of every test. Thick volumes leave a pool's space used until they are wiped.
func lvmRows() []Row {
	return []Row{lvm{thin: true, bytes: 2 << 30}, lvm{bytes: 4 << 30}}
}

func (l lvm) Name() string {
	if l.thin {
		return "lvm-thin"
	}
	return "lvm-thick"
}

func (l lvm) sized(bytes int64) Row { return lvm{thin: l.thin, bytes: bytes} }

func (l lvm) Can() Can {
	can := Can{
		Provisioning: []string{"thick"}, Granularity: extent, Snapshots: true, Clones: true, CopiesInUse: true, Wipes: true,
		Shared: true, IdleGrowth: true,
	}
	if l.thin { // whose blocks are zeroed before a volume gets them
		can.Provisioning, can.Shares, can.Wipes, can.IdleGrowth = []string{"thin"}, true, false, false
	}
	return can
}

func (l lvm) Setup(t testing.TB) Storage {
	t.Helper()
	s := &lvmStorage{lvm: l, group: fmt.Sprintf("vg%08x", rand.Uint32())}
	s.disk = harness.NewSlice(t, l.bytes+l.bytes/8+64<<20) // the thin pool's metadata, twice, and LVM's own
	check(t, s.run("vgcreate", "--yes", s.group, s.disk.Path))
	group, err := harness.ReadVolumeGroup(s.disk.Path)
	check(t, err)
	s.uuid = strings.ReplaceAll(group.ID, "-", "")
	if l.thin {
		check(t, s.run("lvcreate", "--yes", "--type", "thin-pool", "--size", inBytes(l.bytes), "--poolmetadatasize", "16m",
			"--chunksize", "64k", "--name", thinPool, s.group))
	} else { // the rest is somebody else's
		check(t, s.run("lvcreate", "--yes", "--activate", "n", "--zero", "n", "--wipesignatures", "n", "--extents", strconv.FormatInt(s.extentsOver(t, l.bytes), 10), "--name", "rest", s.group))
	}
	t.Cleanup(func() {
		t.Helper()
		if err := s.takeDown(); err != nil {
			t.Errorf("take the volume group %s down: %v", s.group, err)
		}
	})
	return s
}

func inBytes(n int64) string { return strconv.FormatInt(n, 10) + "b" }

// lvmStorage is a volume group.
type lvmStorage struct {
	lvm
	group, uuid string
	disk        *harness.Slice
}

// tool runs one of LVM's tools, which looks at no disk but the storage's.
func (s *lvmStorage) tool(name string, args ...string) (string, error) {
	return harness.Tool(name, append([]string{"--devices", s.disk.Path}, args...)...)
}

func (s *lvmStorage) run(name string, args ...string) error {
	_, err := s.tool(name, args...)
	return err
}

// free is what the volume group has left.
func (s *lvmStorage) groupFree() (int64, error) {
	out, err := s.tool("vgs", "--noheadings", "--nosuffix", "--units", "b", "--options", "vg_free", s.group)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(out), 10, 64)
}

// extentsOver is how many extents a new volume group has beyond so many bytes.
func (s *lvmStorage) extentsOver(t testing.TB, bytes int64) int64 {
	t.Helper()
	free, err := s.groupFree()
	check(t, err)
	return (free - bytes) / extent
}

// takeDown ends what is active of the volume group, whatever a failed test left.
func (s *lvmStorage) takeDown() error {
	var errs []error
	for range 8 { // what lies on others goes first
		all, err := harness.MappedDevices()
		if err != nil {
			return err
		}
		errs = nil
		left := 0
		for _, m := range all {
			if !strings.HasPrefix(m.UUID, "LVM-"+s.uuid) {
				continue
			}
			left++
			if err := harness.DMSetup("remove", m.Name); err != nil {
				errs = append(errs, err)
			}
		}
		if left == 0 {
			break
		}
	}
	return errors.Join(errs...)
}

func (s *lvmStorage) Datastore(name string) harness.Datastore {
	settings := harness.Fields{"volumeGroup": s.group}
	if s.thin {
		settings["thinPool"] = harness.Fields{"name": thinPool}
	}
	return harness.Datastore{Name: name, Spec: harness.Fields{"type": "lvm", "lvm": settings}}
}

// Initialized is the same: what else lies in a volume group is others'.
func (s *lvmStorage) Initialized(name string) harness.Datastore { return s.Datastore(name) }

func (s *lvmStorage) Mistakes(name string) []Mistake {
	at := func(value any, path ...string) harness.Datastore {
		return s.Datastore(name).With(value, append([]string{"lvm"}, path...)...)
	}
	return []Mistake{
		{"a volume group twice", s.Datastore(name), name},
		{"no volume group", at("", "volumeGroup"), "volumeGroup"},
		{"a volume group that can't be", at("../vg", "volumeGroup"), "../vg"},
		{"a volume group that is an option", at("--all", "volumeGroup"), "--all"},
		{"a device without its path", at([]string{"sda"}, "devices"), "sda"},
		{"a thin pool that can't be", at("a/b", "thinPool", "name"), "a/b"},
		{"a chunk that can't be", at(harness.Fields{"name": thinPool, "chunkSize": "1000"}, "thinPool"), "chunkSize"},
		{"a provision that isn't one", at("Always", "provision"), "Always"},
	}
}

func (s *lvmStorage) Camera() harness.Camera {
	return harness.Camera{Views: []harness.View{s.activeView, harness.VolumeGroupView(s.disk.Path)}}
}

// activeView shows what is active of the volume group, but for the thin pool itself: it is active once one of its volumes was.
func (s *lvmStorage) activeView(p harness.Photo) error {
	seen := harness.Photo{}
	err := harness.MappedView("LVM-" + s.uuid)(seen)
	for name, text := range seen {
		if !strings.HasPrefix(name, "mapped "+s.group+"-"+thinPool) {
			p[name] = text
		}
	}
	return err
}

func (s *lvmStorage) Bytes() int64 { return s.bytes }

func (s *lvmStorage) Used() (int64, error) {
	free, err := s.Free()
	return s.bytes - free, err
}

func (s *lvmStorage) Free() (int64, error) {
	if !s.thin {
		return s.groupFree()
	}
	out, err := s.poolStatus()
	if err != nil {
		return 0, err
	}
	// 0 LENGTH thin-pool TRANSACTION USED/TOTAL USED/TOTAL ...: metadata, data, in blocks of data
	// (Documentation/admin-guide/device-mapper/thin-provisioning.rst).
	fields := strings.Fields(out)
	if len(fields) < 6 {
		return 0, fmt.Errorf("the thin pool of %s is %q", s.group, out)
	}
	var used, total int64
	if _, err := fmt.Sscanf(fields[5], "%d/%d", &used, &total); err != nil {
		return 0, fmt.Errorf("the thin pool of %s is %q: %w", s.group, out, err)
	}
	return (total - used) * (s.bytes / total), nil
}

// poolStatus is what device-mapper says of the thin pool, which is activated for that where it isn't.
func (s *lvmStorage) poolStatus() (out string, err error) {
	name := s.group + "-" + thinPool
	all, err := harness.MappedDevices()
	if err != nil {
		return "", err
	}
	if _, used := all[name+"-tpool"]; used {
		return harness.Tool("dmsetup", "status", name+"-tpool")
	}
	if _, active := all[name]; !active {
		if err := s.run("lvchange", "--activate", "y", s.group+"/"+thinPool); err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, s.run("lvchange", "--activate", "n", s.group+"/"+thinPool)) }()
	}
	return harness.Tool("dmsetup", "status", name)
}

func (s *lvmStorage) Below(t testing.TB, d harness.Data, there bool) error {
	t.Helper()
	found, err := d.In(s.disk.Path)
	if err == nil && found != there {
		err = fmt.Errorf("data %q found on the disk: %t", d.Seed, found)
	}
	return err
}

// volume is one of the logical volumes of the volume group that are no parts of others.
type volume struct {
	name string
	tags []string
}

// all are those that bear a mark.
func (s *lvmStorage) all() ([]volume, error) {
	group, err := harness.ReadVolumeGroup(s.disk.Path)
	if err != nil {
		return nil, err
	}
	var all []volume
	for name := range group.Sections["logical_volumes"] {
		v := volume{name: name}
		for _, tag := range strings.Split(strings.Trim(group.Get("logical_volumes", name, "tags"), "[]"), ",") {
			v.tags = append(v.tags, strings.Trim(tag, ` "`))
		}
		if v.marked() {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b volume) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

func (s *lvmStorage) Volumes() ([]string, error) { return s.in(volume.isVolume) }

func (s *lvmStorage) Archived() ([]string, error) { return s.in(volume.isArchived) }

func (s *lvmStorage) in(which func(volume) bool) ([]string, error) {
	all, err := s.all()
	var names []string
	for _, v := range all {
		if which(v) {
			names = append(names, v.name)
		}
	}
	return names, err
}

func (s *lvmStorage) TakeFromArchive(name string) error {
	kept, err := s.Archived()
	if err != nil {
		return err
	}
	for _, k := range kept {
		if strings.Contains(k, name) {
			return s.run("lvremove", "--yes", s.group+"/"+k)
		}
	}
	return fmt.Errorf("nothing of %s is among the archived %v", name, kept)
}

func (s *lvmStorage) Sweep() error {
	names, err := s.in(func(v volume) bool { return v.isVolume() || v.isArchived() })
	if err != nil || len(names) == 0 {
		return err
	}
	args := []string{"--yes"}
	for _, name := range names {
		args = append(args, s.group+"/"+name)
	}
	return s.run("lvremove", args...)
}
