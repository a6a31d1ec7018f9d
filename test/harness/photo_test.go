package harness

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAPhotoShowsEachChangeOfTheMachine(t *testing.T) {
	d := NewDisk(t, "ext4", 64*mib)
	dir := filepath.Dir(d.Image)
	file, folder, link := filepath.Join(d.Path, "file"), filepath.Join(d.Path, "folder"), filepath.Join(d.Path, "link")
	bound := filepath.Join(dir, "bound")
	if err := errors.Join((Data{"a", 3*mib + 5}).WriteFile(file), os.Mkdir(folder, 0o755), os.Symlink("file", link), os.Mkdir(bound, 0o755)); err != nil {
		t.Fatal(err)
	}
	camera := Camera{Under: []string{dir}, Files: []string{d.Path}}
	poke := func(path string, at int64, b byte) error {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte{b}, at)
		return errors.Join(err, f.Close())
	}
	was, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		do, undo func() error
		shows    string
	}{
		{"nothing", func() error { return nil }, func() error { return nil }, ""},
		{"a byte", func() error { return poke(file, 2*mib+77, was[2*mib+77]+1) }, func() error { return poke(file, 2*mib+77, was[2*mib+77]) }, "changed: file " + file},
		{"a mode", func() error { return os.Chmod(folder, 0o700) }, func() error { return os.Chmod(folder, 0o755) }, "changed: file " + folder},
		{"a new file", func() error { return os.WriteFile(file+"2", nil, 0o600) }, func() error { return os.Remove(file + "2") }, "new:     file " + file + "2"},
		{"a link", func() error { return errors.Join(os.Remove(link), os.Symlink("folder", link)) }, func() error { return errors.Join(os.Remove(link), os.Symlink("file", link)) }, "changed: file " + link},
		{"a mount", func() error { return unix.Mount(folder, bound, "", unix.MS_BIND, "") }, func() error { return unix.Unmount(bound, 0) }, "new:     mount " + bound},
	} {
		before, err := camera.Take()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		after, err := camera.Take()
		if err != nil {
			t.Fatal(err)
		}
		diff := before.Diff(after)
		if !strings.Contains(diff, c.shows) || (c.shows == "") != (diff == "") || strings.Count(diff, "\n") > 0 {
			t.Errorf("%s: the photos differ by %q; want one line with %q", c.name, diff, c.shows)
		}
		if err := c.undo(); err != nil {
			t.Fatal(err)
		}
		if err := camera.Settles(t.Context(), before, time.Minute); err != nil {
			t.Errorf("%s undone: %v", c.name, err)
		}
	}
}

func TestAPhotoTakesHolesAndZerosAsAlike(t *testing.T) {
	d := NewDisk(t, "xfs", 512*mib)
	file := filepath.Join(d.Path, "file")
	if err := (Data{"x", 64 << 10}).WriteFile(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 100*mib); err != nil {
		t.Fatal(err)
	}
	sparse, err := contentSum(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, mib), 50*mib); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if written, err := contentSum(file); err != nil || written != sparse {
		t.Errorf("%s with zeros written, %s with a hole, %v", written, sparse, err)
	}
}

func TestDataThatIsLostShows(t *testing.T) {
	file := filepath.Join(Dir(t), "file")
	data := Data{Seed: "pod 1", Bytes: mib + 123}
	if err := data.WriteFile(file); err != nil {
		t.Fatal(err)
	}
	if err := data.CheckFile(file); err != nil {
		t.Error(err)
	}
	if err := (Data{Seed: "pod 2", Bytes: mib + 123}).CheckFile(file); err == nil {
		t.Error("other data passed")
	}
	if err := os.Truncate(file, mib); err != nil {
		t.Fatal(err)
	}
	if err := data.CheckFile(file); err == nil {
		t.Error("a short file passed")
	}
	if err := os.Truncate(file, mib+123); err != nil {
		t.Fatal(err)
	}
	if err := data.CheckFile(file); err == nil {
		t.Error("a tail of zeros passed")
	}
}
