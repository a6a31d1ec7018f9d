package mount_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

func TestTargetsAreMadeOnceWithTheModeAskedFor(t *testing.T) {
	m, tmp := mount.New(mount.Config{}), t.TempDir()
	for name, c := range map[string]struct {
		path string
		make func() (bool, error)
		want fs.FileMode
	}{
		"a directory": {filepath.Join(tmp, "d"), func() (bool, error) { return m.MakeDirTarget(t.Context(), filepath.Join(tmp, "d"), 0o777) }, fs.ModeDir | 0o777},
		"a file":      {filepath.Join(tmp, "f"), func() (bool, error) { return m.MakeFileTarget(t.Context(), filepath.Join(tmp, "f"), 0o666) }, 0o666},
	} {
		t.Run(name, func(t *testing.T) {
			for _, want := range []bool{true, false} {
				created, err := c.make()
				if err != nil || created != want {
					t.Errorf("created %v, %v, want %v", created, err, want)
				}
			}
			if p := inspect(t, c.path); p.Mode != c.want {
				t.Errorf("mode %v, want %v whatever the umask", p.Mode, c.want)
			}
		})
	}
}

func TestATargetOfAnotherKindIsRefused(t *testing.T) {
	m, tmp := mount.New(mount.Config{}), t.TempDir()
	d, f, link := dir(t, tmp, "d"), file(t, "", tmp, "f"), filepath.Join(tmp, "link")
	if err := os.Symlink(d, link); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"regular file": f, "symbolic link": link, "character device": "/dev/null"} {
		_, err := m.MakeDirTarget(t.Context(), path, 0o750)
		wantFault(t, err, fault.Precondition, path, name)
	}
	for name, path := range map[string]string{"a directory": d, "a symbolic link": link, "a mount": tmpfs(t, tmp, "m")} {
		if _, err := m.MakeFileTarget(t.Context(), path, 0o640); !fault.Is(err, fault.Precondition) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := m.MakeDirTarget(t.Context(), filepath.Join(tmp, "no/d"), 0o750)
	wantFault(t, err, fault.NotFound, "no/d")
	_, err = m.MakeFileTarget(t.Context(), "relative", 0o640)
	wantFault(t, err, fault.Invalid)
}

func TestATargetThatIsMountedOnIsThereAlready(t *testing.T) {
	m, f := mount.New(mount.Config{}), file(t, "", t.TempDir(), "f")
	if err := m.Bind(t.Context(), "/dev/null", f, mount.BindOptions{}); err != nil {
		t.Fatal(err)
	}
	if created, err := m.MakeFileTarget(t.Context(), f, 0o640); created || err != nil {
		t.Errorf("a bound device: %v, %v", created, err)
	}
	if created, err := m.MakeDirTarget(t.Context(), tmpfs(t, t.TempDir(), "d"), 0o750); created || err != nil {
		t.Errorf("a mount: %v, %v", created, err)
	}
}

func TestOneOfManyMakesATarget(t *testing.T) {
	m, d := mount.New(mount.Config{}), filepath.Join(t.TempDir(), "d")
	made := make(chan bool, 16)
	var g errgroup.Group
	for range cap(made) {
		g.Go(func() error {
			created, err := m.MakeDirTarget(t.Context(), d, 0o750)
			made <- created
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	close(made)
	n := 0
	for created := range made {
		if created {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d callers made it", n)
	}
}

func TestRemoveTargetRemovesWhatIsEmpty(t *testing.T) {
	m, tmp := mount.New(mount.Config{}), t.TempDir()
	for name, path := range map[string]string{
		"an empty directory":             dir(t, tmp, "d"),
		"an empty file":                  file(t, "", tmp, "f"),
		"what is not there":              filepath.Join(tmp, "no"),
		"what is not there below a file": filepath.Join(file(t, "", tmp, "g"), "no"),
	} {
		t.Run(name, func(t *testing.T) {
			if err := m.RemoveTarget(t.Context(), path); err != nil {
				t.Error(err)
			}
			if inspect(t, path).Exists {
				t.Error("it is still there")
			}
		})
	}
}

func TestRemoveTargetLeavesEverythingElse(t *testing.T) {
	m, tmp := mount.New(mount.Config{}), t.TempDir()
	full, link, fifo := dir(t, tmp, "full"), filepath.Join(tmp, "link"), filepath.Join(tmp, "fifo")
	file(t, "precious", full, "f")
	if err := os.Symlink(dir(t, tmp, "d"), link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	bound := file(t, "", tmp, "bound")
	if err := m.Bind(t.Context(), "/dev/null", bound, mount.BindOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"a directory with a file": full, "a file with content": filepath.Join(full, "f"), "a symbolic link": link,
		"a fifo": fifo, "an empty mount": tmpfs(t, tmp, "mounted"), "a bound device": bound,
	} {
		t.Run(name, func(t *testing.T) {
			before := inspect(t, path)
			err := m.RemoveTarget(t.Context(), path)
			wantFault(t, err, fault.Precondition, path, "left untouched")
			if inspect(t, path) != before {
				t.Error("it was changed")
			}
		})
	}
	wantFault(t, m.RemoveTarget(t.Context(), "/"), fault.Invalid)
}

func TestRemoveTargetLosesAgainstAMountInTheLastMoment(t *testing.T) {
	m, d := mount.New(mount.Config{}), dir(t, t.TempDir(), "d")
	ctx := step.WithHook(t.Context(), func(string, string) { tmpfs(t, d) })
	wantFault(t, m.RemoveTarget(ctx, d), fault.Precondition, d, "mounted")
	if !inspect(t, d).IsMount {
		t.Error("the mount is gone")
	}
}

func TestSetModeIsForDirectoriesWithoutAMount(t *testing.T) {
	m, tmp := mount.New(mount.Config{}), t.TempDir()
	d, changes := dir(t, tmp, "d"), 0
	ctx := step.WithHook(t.Context(), func(string, string) { changes++ })
	for range 2 {
		if err := m.SetMode(ctx, d, 0); err != nil {
			t.Fatal(err)
		}
	}
	if p := inspect(t, d); p.Mode != fs.ModeDir || changes != 1 {
		t.Errorf("mode %v after %d changes", p.Mode, changes)
	}
	link := filepath.Join(tmp, "link")
	if err := os.Symlink(d, link); err != nil {
		t.Fatal(err)
	}
	mounted := tmpfs(t, tmp, "mounted")
	for _, path := range []string{mounted, link, file(t, "", tmp, "f")} {
		wantFault(t, m.SetMode(t.Context(), path, 0), fault.Precondition, path)
	}
	wantFault(t, m.SetMode(t.Context(), filepath.Join(tmp, "no"), 0), fault.NotFound)
	if p := inspect(t, mounted); p.Mode.Perm() != 0o777 {
		t.Errorf("a mounted file system's mode was changed to %v", p.Mode)
	}
}

func TestModeZeroKeepsOthersOut(t *testing.T) {
	m, d := mount.New(mount.Config{}), dir(t, t.TempDir(), "d")
	for p := d; p != "/tmp" && p != "/"; p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	writes := func() bool {
		return unix.Faccessat(unix.AT_FDCWD, d, unix.W_OK, 0) == nil
	}
	if err := m.SetMode(t.Context(), d, 0); err != nil {
		t.Fatal(err)
	}
	run(t, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", "! touch "+d+"/f")
	if !writes() {
		t.Error("root has no way in either: the driver couldn't work")
	}
}
