package mount_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// invisible returns this process's descriptors whose mount is in no mount table: clones that aren't
// placed yet, and what it was started with from outside its root.
func invisible(t *testing.T) []int {
	t.Helper()
	all, err := mount.New(mount.Config{}).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	visible := map[uint64]bool{}
	for _, e := range all {
		visible[uint64(e.ID)] = true
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, f := range fds {
		fd, err := strconv.Atoi(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Statx_t
		link, err := os.Readlink("/proc/self/fd/" + f.Name())
		if err != nil || !strings.HasPrefix(link, "/") {
			continue
		}
		if unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st) == nil && !visible[st.Mnt_id] {
			found = append(found, fd)
		}
	}
	return found
}

func TestBindIsReadOnlyBeforeItIsVisible(t *testing.T) {
	source := tmpfs(t, t.TempDir(), "source")
	target := dir(t, t.TempDir(), "target")
	looked, before := false, invisible(t)
	ctx := step.WithHook(t.Context(), func(_, what string) {
		clones := slices.DeleteFunc(invisible(t), func(fd int) bool { return slices.Contains(before, fd) })
		if len(clones) != 1 {
			t.Fatalf("%d clones at %q, want one", len(clones), what)
		}
		fd, err := unix.Openat(clones[0], "probe", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("at %q the clone could be written to: %d, %v", what, fd, err)
		}
		looked = true
	})
	if err := mount.New(mount.Config{}).Bind(ctx, source, target, mount.BindOptions{ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	if !looked {
		t.Error("Bind told no step")
	}
	if p := inspect(t, target); !p.IsMount || !p.ReadOnly || !p.IsDir {
		t.Errorf("target %+v", p)
	}
	if p := inspect(t, source); p.ReadOnly {
		t.Error("the source became read-only as well")
	}
}

func TestNoWriterSlipsInWhileABindIsMade(t *testing.T) {
	m, source, target := mount.New(mount.Config{}), tmpfs(t, t.TempDir(), "source"), dir(t, t.TempDir(), "target")
	var stop atomic.Bool
	var tried atomic.Int64
	var g errgroup.Group
	for w := range 2 {
		g.Go(func() error {
			for i := 0; !stop.Load(); i++ {
				tried.Add(1)
				fd, err := unix.Open(fmt.Sprintf("%s/w%d-%d", target, w, i%64), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
				switch {
				case err == nil: // the directory beneath
					if err := unix.Close(fd); err != nil {
						return err
					}
				case !errors.Is(err, unix.EROFS):
					return err
				}
			}
			return nil
		})
	}
	for range 300 {
		if err := m.Bind(t.Context(), source, target, mount.BindOptions{ReadOnly: true}); err != nil {
			t.Error(err)
			break
		}
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Error(err)
			break
		}
	}
	stop.Store(true)
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(source)
	if err != nil || len(left) != 0 {
		t.Errorf("%d of %d writes reached the source: %v", len(left), tried.Load(), err)
	}
}

func TestBindAsksWhetherTheSourceIsTheRightOne(t *testing.T) {
	m, source, target := mount.New(mount.Config{}), tmpfs(t, t.TempDir(), "source"), dir(t, t.TempDir(), "target")
	want := inspect(t, source)
	mounted := func(p mount.Point) error {
		if !p.IsMount || p != want {
			return fault.New(fault.Precondition, "no volume is mounted there")
		}
		return nil
	}
	plain := dir(t, t.TempDir(), "plain")
	err := m.Bind(t.Context(), plain, target, mount.BindOptions{Verify: mounted})
	wantFault(t, err, fault.Precondition, "no volume is mounted there", plain, target)
	if inspect(t, target).IsMount {
		t.Fatal("a source that was refused was bound")
	}
	if err := m.Bind(t.Context(), source, target, mount.BindOptions{Verify: mounted}); err != nil {
		t.Fatal(err)
	}
	if p := inspect(t, target); p.Dev != want.Dev || p.Ino != want.Ino || p.MountID == want.MountID {
		t.Errorf("target %+v, source %+v", p, want)
	}
}

func TestBindBindsWhatWasVerifiedAndNotWhatTheNameLeadsToLater(t *testing.T) {
	m, target := mount.New(mount.Config{}), dir(t, t.TempDir(), "target")
	source := dir(t, t.TempDir(), "source")
	file(t, "right", source, "which")
	swap := func(mount.Point) error {
		if err := os.Rename(source, source+".old"); err != nil {
			return err
		}
		file(t, "wrong", dir(t, source), "which")
		return nil
	}
	if err := m.Bind(t.Context(), source, target, mount.BindOptions{Verify: swap}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(target, "which")); err != nil || string(b) != "right" {
		t.Errorf("bound %q, %v", b, err)
	}
}

func TestBindRefuses(t *testing.T) {
	tmp := t.TempDir()
	source, regular, target, mounted := dir(t, tmp, "source"), file(t, "", tmp, "file"), dir(t, tmp, "target"), tmpfs(t, tmp, "mounted")
	link, fileLink := filepath.Join(tmp, "link"), filepath.Join(tmp, "filelink")
	for l, to := range map[string]string{link: source, fileLink: regular} {
		if err := os.Symlink(to, l); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		source, target string
		o              mount.BindOptions
		kind           fault.Kind
	}{
		"a symbolic link as source":           {link, target, mount.BindOptions{}, fault.Precondition},
		"a symbolic link as target":           {source, link, mount.BindOptions{}, fault.Precondition},
		"a symbolic link to a file as target": {regular, fileLink, mount.BindOptions{}, fault.Precondition},
		"a directory on a file":               {source, regular, mount.BindOptions{}, fault.Precondition},
		"a file on a directory":               {regular, target, mount.BindOptions{}, fault.Precondition},
		"a device on a directory":             {"/dev/null", target, mount.BindOptions{}, fault.Precondition},
		"a source that is not there":          {source + "/no", target, mount.BindOptions{}, fault.NotFound},
		"a target that is not there":          {source, target + "/no", mount.BindOptions{}, fault.NotFound},
		"a target below a file":               {source, regular + "/no", mount.BindOptions{}, fault.NotFound},
		"a target that is mounted on":         {source, mounted, mount.BindOptions{}, fault.Busy},
		"a relative source":                   {"source", target, mount.BindOptions{}, fault.Invalid},
		"an unclean target":                   {source, target + "/../target", mount.BindOptions{}, fault.Invalid},
		"an unknown attribute":                {source, target, mount.BindOptions{Attributes: []string{"suid"}}, fault.Invalid},
		"a file system's option":              {source, target, mount.BindOptions{Attributes: []string{"discard"}}, fault.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			wantFault(t, mount.New(mount.Config{}).Bind(t.Context(), c.source, c.target, c.o), c.kind, c.source, c.target)
			if inspect(t, target).IsMount || inspect(t, regular).IsMount {
				t.Error("something was bound")
			}
		})
	}
}

func TestBindSetsAttributes(t *testing.T) {
	for name, c := range map[string]struct{ give, want []string }{
		"none":            {nil, []string{"rw", "relatime"}},
		"security":        {[]string{"nosuid", "nodev", "noexec", "nosymfollow"}, []string{"nosuid", "nodev", "noexec", "nosymfollow"}},
		"noatime":         {[]string{"noatime", "nodiratime"}, []string{"noatime", "nodiratime"}},
		"the last counts": {[]string{"noatime", "relatime"}, []string{"relatime"}},
	} {
		t.Run(name, func(t *testing.T) {
			source, target := dir(t, t.TempDir(), "source"), dir(t, t.TempDir(), "target")
			if err := mount.New(mount.Config{}).Bind(t.Context(), source, target, mount.BindOptions{Attributes: c.give}); err != nil {
				t.Fatal(err)
			}
			found := entries(t, target)
			if len(found) != 1 {
				t.Fatalf("mount table: %+v", found)
			}
			for _, o := range c.want {
				if !slices.Contains(found[0].Options, o) {
					t.Errorf("options %q lack %q", found[0].Options, o)
				}
			}
		})
	}
}

func TestBindOfADeviceNodeOntoAFile(t *testing.T) {
	dev, target := disk(t, "", 8), file(t, "", t.TempDir(), "target")
	m := mount.New(mount.Config{})
	if err := m.Bind(t.Context(), dev, target, mount.BindOptions{}); err != nil {
		t.Fatal(err)
	}
	if p, d := inspect(t, target), inspect(t, dev); !p.IsMount || p.IsDir || p.Rdev == 0 || p.Rdev != d.Rdev {
		t.Errorf("target %+v, device %+v", p, d)
	}
	if err := os.WriteFile(target, []byte("written through"), 0); err != nil {
		t.Error(err)
	}
	if err := m.Unmount(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if p := inspect(t, target); !p.Mode.IsRegular() {
		t.Errorf("after Unmount it is %v", p.Mode)
	}
}

func TestBindLeavesOutWhatIsMountedBelow(t *testing.T) {
	source, target := tmpfs(t, t.TempDir(), "source"), dir(t, t.TempDir(), "target")
	below := tmpfs(t, source, "below")
	file(t, "secret", below, "f")
	if err := mount.New(mount.Config{}).Bind(t.Context(), source, target, mount.BindOptions{}); err != nil {
		t.Fatal(err)
	}
	if p := inspect(t, filepath.Join(target, "below/f")); p.Exists {
		t.Error("a mount below the source came along")
	}
}

// optionalFields returns the propagation part of a mount's line (shared:N, master:N).
func optionalFields(t *testing.T, mountPoint string) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if f[4] == mountPoint {
			return f[6:slices.Index(f, "-")]
		}
	}
	t.Fatalf("%s isn't mounted", mountPoint)
	return nil
}

func TestBindPropagatesAsMountBindDoes(t *testing.T) {
	m := mount.New(mount.Config{})
	source := tmpfs(t, t.TempDir(), "source")
	parent, peer, pod := tmpfs(t, t.TempDir(), "parent"), dir(t, t.TempDir(), "peer"), dir(t, t.TempDir(), "pod")
	ours, theirs := dir(t, parent, "ours"), dir(t, parent, "theirs")
	for _, c := range []struct {
		source, target string
		flags          uintptr
	}{
		{"", source, unix.MS_PRIVATE}, {"", parent, unix.MS_SHARED}, // as the kubelet's folder is
		{parent, peer, unix.MS_BIND}, {parent, pod, unix.MS_BIND}, {"", pod, unix.MS_SLAVE}, // as a container sees it
		{source, theirs, unix.MS_BIND},
	} {
		if err := unix.Mount(c.source, c.target, "", c.flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Bind(t.Context(), source, ours, mount.BindOptions{ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{filepath.Join(peer, "ours"), filepath.Join(pod, "ours")} {
		if p := inspect(t, d); !p.IsMount || !p.ReadOnly {
			t.Errorf("%s: %+v, want the read-only mount", d, p)
		}
	}
	a, b := optionalFields(t, ours), optionalFields(t, theirs)
	if len(a) != 1 || len(b) != 1 || !strings.HasPrefix(a[0], "shared:") || a[0] == b[0] {
		t.Errorf("propagation %q, that of mount --bind is %q", a, b)
	}
	if got := optionalFields(t, source); len(got) != 0 {
		t.Errorf("the private source became %q", got)
	}
	if err := m.Unmount(t.Context(), ours); err != nil {
		t.Fatal(err)
	}
	if inspect(t, filepath.Join(peer, "ours")).IsMount || inspect(t, filepath.Join(pod, "ours")).IsMount {
		t.Error("the peers kept a mount that was taken off")
	}
}

func TestBindUnderAPrivateMountIsPrivate(t *testing.T) {
	source, parent := tmpfs(t, t.TempDir(), "source"), tmpfs(t, t.TempDir(), "parent")
	target := dir(t, parent, "target")
	for _, d := range []string{source, parent} {
		if err := unix.Mount("", d, "", unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := mount.New(mount.Config{}).Bind(t.Context(), source, target, mount.BindOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := optionalFields(t, target); len(got) != 0 {
		t.Errorf("propagation %q, want none", got)
	}
}

// What a consumer mounts in a volume must not come to be seen in the datastore's directory, from which its mount was
// made: the volume could not be deleted then.
func TestAPrivateBindHasPeersOfItsTargetOnly(t *testing.T) {
	source, parent, peer := tmpfs(t, t.TempDir(), "source"), tmpfs(t, t.TempDir(), "parent"), dir(t, t.TempDir(), "peer")
	below := dir(t, source, "below")
	target := dir(t, parent, "target")
	for _, d := range []string{source, parent} {
		if err := unix.Mount("", d, "", unix.MS_SHARED, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount(parent, peer, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := mount.New(mount.Config{}).Bind(t.Context(), source, target, mount.BindOptions{Private: true}); err != nil {
		t.Fatal(err)
	}
	if !inspect(t, filepath.Join(peer, "target")).IsMount {
		t.Error("the target's peer does not have the mount")
	}
	tmpfs(t, filepath.Join(target, "below"))
	if inspect(t, below).IsMount {
		t.Error("what was mounted in the new mount is seen in its source")
	}
	if !inspect(t, filepath.Join(peer, "target", "below")).IsMount {
		t.Error("what was mounted in the new mount is not seen by its peer")
	}
}
