package tree

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/quota"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

const project = quota.ID(0x44530001)

func TestTheStateOfAFileSystemsProjectQuotas(t *testing.T) {
	for _, d := range disks() {
		for name, c := range map[string]struct {
			options string
			want    quota.State
		}{
			"enforced":       {d.enforce, quota.Enforced},
			"only accounted": {d.account, quota.Accounting},
		} {
			t.Run(d.name+" "+name, func(t *testing.T) { wantState(t, d.mounted(t, c.options), c.want) })
		}
	}
	t.Run("xfs without", func(t *testing.T) { wantState(t, disks()[1].mounted(t, ""), quota.Off) })
	t.Run("xfs with quotas of users only", func(t *testing.T) { wantState(t, disks()[1].mounted(t, "usrquota"), quota.Off) })
	t.Run("ext4 without", func(t *testing.T) {
		d := disks()[0]
		d.mkfs = []string{"mkfs.ext4", "-q", "-F", "-E", "nodiscard"}
		dir := d.mounted(t, "")
		wantState(t, dir, quota.Off)
		wantKind(t, quota.SetProject(t.Context(), folder(t, dir, "d"), project), fault.Precondition, "project")
	})
	t.Run("tmpfs", func(t *testing.T) {
		dir := t.TempDir()
		wantState(t, dir, quota.Off)
		if id, inherits, err := quota.Project(folder(t, dir, "d")); id != 0 || inherits || err != nil {
			t.Errorf("project %d, %t, %v", id, inherits, err)
		}
	})
}

func wantState(t *testing.T, dir string, want quota.State) {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	defer f.Close()
	if got, err := quota.StateOf(f); got != want || err != nil {
		t.Errorf("%d, %v; want %d", got, err, want)
	}
}

func TestADirectoryIsLimited(t *testing.T) {
	onEach(t, func(t *testing.T, d disk, dir string) {
		f := folder(t, dir, "volume")
		if u, err := quota.Get(f, project); u != (quota.Usage{}) || err != nil {
			t.Fatalf("before anything: %+v, %v", u, err)
		}
		must(t, quota.SetProject(t.Context(), f, project))
		must(t, quota.SetLimit(t.Context(), f, project, 16*mib))
		if id, inherits, err := quota.Project(f); id != project || !inherits || err != nil {
			t.Errorf("project %d, inherits %t, %v", id, inherits, err)
		}
		if took := asUser(t, f.Name(), 32*mib); took > 16*mib || took < 15*mib {
			t.Errorf("a user could write %d bytes", took)
		}
		u, err := quota.Get(f, project)
		must(t, err)
		if u.LimitBytes != 16*mib || u.UsedBytes < 15*mib || u.UsedBytes > 16*mib || u.Inodes != 2 {
			t.Errorf("usage %+v", u)
		}
		var s unix.Statfs_t
		must(t, unix.Statfs(f.Name(), &s))
		if total := int64(s.Blocks) * s.Bsize; total != 16*mib {
			t.Errorf("statfs says %d bytes", total)
		}
		// Larger, while it is in use.
		must(t, quota.SetLimit(t.Context(), f, project, 24*mib))
		if took := asUser(t, f.Name(), 32*mib); took < 23*mib || took > 24*mib {
			t.Errorf("with the larger limit a user could write %d bytes", took)
		}
		must(t, quota.SetLimit(t.Context(), f, project, 0))
		if took := asUser(t, f.Name(), 32*mib); took != 32*mib {
			t.Errorf("without limit a user could write %d bytes", took)
		}
	})
}

// asUser writes a file as nobody, who has no capabilities, until the directory takes no more, and
// returns its length.
func asUser(t *testing.T, dir string, bytes int64) int64 {
	t.Helper()
	file := filepath.Join(dir, "data")
	_ = os.Remove(file)
	cmd := exec.Command("dd", "if=/dev/zero", "of="+file, "bs=64K", "count="+strconv.FormatInt(bytes>>16, 10), "conv=fsync")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "quota") && !strings.Contains(string(out), "No space") {
		t.Fatalf("dd: %v: %s", err, out)
	}
	info, err := os.Stat(file)
	must(t, err)
	return info.Size()
}

// The documentation says so; a kernel that does better may change it.
func TestRootIsBoundOnXFSAndNotOnExt4(t *testing.T) {
	onEach(t, func(t *testing.T, d disk, dir string) {
		f := folder(t, dir, "volume")
		must(t, quota.SetProject(t.Context(), f, project))
		must(t, quota.SetLimit(t.Context(), f, project, 4*mib))
		took := fill(t, filepath.Join(f.Name(), "data"), 8*mib)
		if bound := took <= 4*mib; bound != (d.name == "xfs") {
			t.Errorf("root could write %d bytes", took)
		}
	})
}

func TestProjectsInUseAreFound(t *testing.T) {
	onEach(t, func(t *testing.T, d disk, dir string) {
		top, err := os.Open(dir)
		must(t, err)
		defer top.Close()
		if _, ok, err := quota.Next(top, project); ok || err != nil {
			t.Fatalf("a new file system: %t, %v", ok, err)
		}
		must(t, quota.SetLimit(t.Context(), top, project+5, mib))
		if id, ok, err := quota.Next(top, project); id != project+5 || !ok || err != nil {
			t.Errorf("found %d, %t, %v", id, ok, err)
		}
		if _, ok, err := quota.Next(top, project+6); ok || err != nil {
			t.Errorf("behind it: %t, %v", ok, err)
		}
		must(t, quota.SetLimit(t.Context(), top, project+5, 0))
		if u, err := quota.Get(top, project+5); u != (quota.Usage{}) || err != nil {
			t.Errorf("with its limit lifted: %+v, %v", u, err)
		}
	})
}

func TestEachChangeIsAStep(t *testing.T) {
	onEach(t, func(t *testing.T, d disk, dir string) {
		f := folder(t, dir, "volume")
		var told []string
		ctx := step.WithHook(t.Context(), func(_, what string) { told = append(told, what) })
		must(t, quota.SetProject(ctx, f, project))
		must(t, quota.SetLimit(ctx, f, project, mib))
		if len(told) != 2 {
			t.Errorf("told of %q", told)
		}
		wantKind(t, quota.SetLimit(ctx, f, 0, mib), fault.Invalid)
	})
}
