package mount_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

func TestUnmountTakesOffOneMountOfAStack(t *testing.T) {
	m, d := mount.New(mount.Config{}), tmpfs(t, t.TempDir(), "d")
	first := inspect(t, d)
	tmpfs(t, d)
	tmpfs(t, d)
	for want := 2; want >= 0; want-- {
		if err := m.Unmount(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if got := len(entries(t, d)); got != want {
			t.Fatalf("%d mounts are left, want %d", got, want)
		}
		if want == 1 && inspect(t, d) != first {
			t.Error("not the topmost mount was taken off")
		}
	}
}

func TestUnmountOfWhatIsNotMountedIsSuccessAndNoChange(t *testing.T) {
	tmp := t.TempDir()
	mounted, link := tmpfs(t, tmp, "mounted"), filepath.Join(tmp, "link")
	if err := os.Symlink(mounted, link); err != nil {
		t.Fatal(err)
	}
	ctx := step.WithHook(t.Context(), func(_, what string) { t.Errorf("changed something: %s", what) })
	for name, path := range map[string]string{
		"not there":                  filepath.Join(tmp, "no"),
		"below a file":               filepath.Join(file(t, "", tmp, "f"), "no"),
		"a directory":                dir(t, tmp, "d"),
		"a file":                     file(t, "", tmp, "g"),
		"a symbolic link to a mount": link,
	} {
		t.Run(name, func(t *testing.T) {
			if err := mount.New(mount.Config{}).Unmount(ctx, path); err != nil {
				t.Error(err)
			}
		})
	}
	if !inspect(t, mounted).IsMount {
		t.Error("a mount was taken off through a symbolic link")
	}
	wantFault(t, mount.New(mount.Config{}).Unmount(ctx, "mounted"), fault.Invalid)
}

func TestUnmountOfAMountInUseIsBusy(t *testing.T) {
	m, d := mount.New(mount.Config{}), tmpfs(t, t.TempDir(), "d")
	f, err := os.Create(filepath.Join(d, "open"))
	if err != nil {
		t.Fatal(err)
	}
	wantFault(t, m.Unmount(t.Context(), d), fault.Busy, d, "in use")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	below := tmpfs(t, d, "below")
	wantFault(t, m.Unmount(t.Context(), d), fault.Busy, d)
	for _, path := range []string{below, d} {
		if err := m.Unmount(t.Context(), path); err != nil {
			t.Error(err)
		}
	}
}

func TestUnmountThatAnotherMadeFirstIsSuccess(t *testing.T) {
	m, d := mount.New(mount.Config{}), tmpfs(t, t.TempDir(), "d")
	ctx := step.WithHook(t.Context(), func(string, string) {
		if err := m.Unmount(t.Context(), d); err != nil {
			t.Error(err)
		}
	})
	if err := m.Unmount(ctx, d); err != nil {
		t.Error(err)
	}
}
