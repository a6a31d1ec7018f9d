package rows

import (
	"path/filepath"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// Losses of a logical volume.
func (s *lvmStorage) Losses() []Loss {
	all := []Loss{
		{Name: "another logical volume stands in its place", Do: s.instead(true)},
		{Name: "a blank one without its mark stands in its place", Do: s.instead(false)},
		{Name: "it lost its mark", Do: s.unmark},
		{Name: "it was cut short", Do: s.cutShort},
	}
	if !s.thin { // what is removed from a thin pool is lost for good
		all = append(all, Loss{Name: "it is gone", Gone: true, Do: s.remove})
	} else {
		all = append(all, Loss{Name: "it has another name and no mark", Gone: true, Do: s.rename})
	}
	return all
}

// tagsOf gives the tags of a logical volume, as arguments that add or remove them.
func (s *lvmStorage) tagsOf(t testing.TB, name, option string) (args []string) {
	t.Helper()
	all, err := s.all()
	check(t, err)
	for _, v := range all {
		if v.name == name {
			for _, tag := range v.tags {
				args = append(args, option, tag)
			}
		}
	}
	return args
}

func (s *lvmStorage) unmark(t testing.TB, id string) func() {
	t.Helper()
	name, err := s.named(id)
	check(t, err)
	add := s.tagsOf(t, name, "--addtag")
	check(t, s.run("lvchange", append(s.tagsOf(t, name, "--deltag"), s.group+"/"+name)...))
	return func() {
		t.Helper()
		check(t, s.run("lvchange", append(add, s.group+"/"+name)...))
	}
}

func (s *lvmStorage) rename(t testing.TB, id string) func() {
	t.Helper()
	name, err := s.named(id)
	check(t, err)
	mark := s.unmark(t, id)
	check(t, s.run("lvrename", s.group, name, "aside"))
	return func() {
		t.Helper()
		check(t, s.run("lvrename", s.group, "aside", name))
		mark()
	}
}

// instead puts another logical volume in a volume's place, with its mark and another file system, or blank and without.
func (s *lvmStorage) instead(marked bool) func(testing.TB, string) func() {
	return func(t testing.TB, id string) func() {
		t.Helper()
		name, err := s.named(id)
		check(t, err)
		content, err := s.Content(id)
		check(t, err)
		bytes, err := harness.DeviceBytes(content.Path)
		check(t, err)
		check(t, content.Close())
		tags := s.tagsOf(t, name, "--addtag")
		back := s.rename(t, id)
		args := []string{"--yes", "--name", name}
		if marked {
			args = append(args, tags...)
		}
		if s.thin {
			args = append(args, "--thin", "--virtualsize", inBytes(bytes), s.group+"/"+thinPool)
		} else {
			args = append(args, "--size", inBytes(bytes), s.group)
		}
		check(t, s.run("lvcreate", args...))
		if marked {
			check(t, harness.Mkfs("ext4", "/dev/mapper/"+s.mapped(name)))
		}
		check(t, s.run("lvchange", "--activate", "n", s.group+"/"+name))
		return func() {
			t.Helper()
			check(t, s.run("lvremove", "--yes", s.group+"/"+name))
			back()
		}
	}
}

func (s *lvmStorage) cutShort(t testing.TB, id string) func() {
	t.Helper()
	name, err := s.named(id)
	check(t, err)
	content, err := s.Content(id)
	check(t, err)
	aside, err := harness.SetAside(t, content.Path)
	check(t, err)
	bytes, err := harness.DeviceBytes(content.Path)
	check(t, err)
	check(t, content.Close())
	check(t, s.run("lvreduce", "--yes", "--force", "--size", inBytes(bytes/2/extent*extent), s.group+"/"+name))
	return func() {
		t.Helper()
		check(t, s.run("lvextend", "--yes", "--size", inBytes(bytes), s.group+"/"+name))
		content, err := s.Content(id)
		check(t, err)
		check(t, harness.BringBack(aside, content.Path))
		check(t, content.Close())
	}
}

// remove removes the logical volume and, to undo it, restores what LVM knew of the volume group: its bytes were not touched.
func (s *lvmStorage) remove(t testing.TB, id string) func() {
	t.Helper()
	name, err := s.named(id)
	check(t, err)
	backup := filepath.Join(harness.Dir(t), "backup")
	check(t, s.run("vgcfgbackup", "--file", backup, s.group))
	check(t, s.run("lvremove", "--yes", s.group+"/"+name))
	return func() {
		t.Helper()
		check(t, s.run("vgcfgrestore", "--yes", "--file", backup, s.group))
	}
}

// Breakages of a volume group on one disk.
func (s *lvmStorage) Breakages() []Breakage {
	return []Breakage{
		{Name: "its disk hangs", Hangs: true, Break: func(t testing.TB) func() {
			check(t, s.disk.Hang())
			return func() { check(t, s.disk.Recover()) }
		}},
		{Name: "its disk fails", Idle: true, Break: func(t testing.TB) func() {
			check(t, s.disk.Fail())
			return func() { check(t, s.disk.Recover()) }
		}},
		{Name: "its disk is gone", Idle: true, Break: func(t testing.TB) func() { return s.TakeAway(t) }},
		{Name: "another volume group of its name", Idle: true, Break: func(t testing.TB) func() {
			back := s.TakeAway(t)
			stranger := harness.NewSlice(t, s.disk.Bytes)
			_, err := harness.Tool("vgcreate", "--devices", stranger.Path, "--yes", s.group, stranger.Path)
			check(t, err)
			if s.thin {
				_, err := harness.Tool("lvcreate", "--devices", stranger.Path, "--yes", "--type", "thin-pool", "--size", "1g", "--name", thinPool, s.group)
				check(t, err)
				_, err = harness.Tool("vgchange", "--devices", stranger.Path, "--activate", "n", s.group)
				check(t, err)
			}
			return func() {
				check(t, stranger.Detach())
				back()
			}
		}},
	}
}
