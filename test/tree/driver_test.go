package tree

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// serve starts a driver whose datastore "pool" lies in a folder of a file system.
func serve(t *testing.T, path string) *harness.Driver {
	t.Helper()
	inside := filepath.Join(path, "datastore")
	must(t, os.Mkdir(inside, 0o755))
	d := harness.NewDriver(t, harness.Options{
		Dir: t.TempDir(), Program: os.Getenv(binaryVariable), Datastores: []harness.Datastore{harness.Directory("pool", inside)},
	})
	must(t, d.Start(t.Context()))
	return d
}

func claim(bytes int64) harness.Claim {
	return harness.Claim{Name: harness.NewName(), Bytes: bytes, Parameters: map[string]string{"datastore": "pool", "format": "subdirectory"}}
}

// TestTheSizeOfAVolumeIsEnforced from its creation to its deletion, over the driver's socket, and its user sees it.
func TestTheSizeOfAVolumeIsEnforced(t *testing.T) {
	onEach(t, func(t *testing.T, d disk, path string) {
		ctx := t.Context()
		driver := serve(t, path)
		v, err := harness.NewVolume(driver.Client, driver.Host, t.TempDir(), claim(16*mib))
		must(t, err)
		must(t, harness.Retry(ctx, v.Create))
		for _, up := range []func(context.Context) error{v.Attach, v.Stage, v.Publish} {
			must(t, up(ctx))
		}
		for dir := v.Target; dir != "/"; dir = filepath.Dir(dir) { // for a user without privileges
			info, err := os.Stat(dir)
			must(t, err)
			must(t, os.Chmod(dir, info.Mode().Perm()|0o005))
		}
		must(t, os.Chmod(v.Target, 0o777))
		if took := asUser(t, v.Target, 32*mib); took > 16*mib || took < 15*mib {
			t.Errorf("%d bytes could be written", took)
		}
		wantStats(t, driver, v, 16*mib, 15*mib)
		must(t, driver.Crash(ctx))
		_, err = v.Expand(ctx, 24*mib)
		must(t, err)
		must(t, v.NodeExpand(ctx, 24*mib))
		if took := asUser(t, v.Target, 32*mib); took > 24*mib || took < 23*mib {
			t.Errorf("after growing %d bytes could be written", took)
		}
		wantStats(t, driver, v, 24*mib, 23*mib)
		health, err := driver.NodeGetVolumeHealth(ctx, &csi.NodeGetVolumeHealthRequest{VolumeId: v.ID, StagingTargetPath: v.Staging, VolumePublishPath: v.Target})
		if err != nil || len(health.GetVolumeHealth().GetHealthStatuses()) > 0 {
			t.Errorf("health %v, %v", health, err)
		}
		must(t, v.Down(ctx))
		must(t, driver.Stop())
		wantNoProjects(t, path)
	})
}

// wantStats checks what the driver says of a volume's size and use.
func wantStats(t *testing.T, d *harness.Driver, v *harness.Volume, total, used int64) {
	t.Helper()
	stats, err := d.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: v.ID, VolumePath: v.Target, StagingTargetPath: v.Staging})
	must(t, err)
	u := stats.GetUsage()[0]
	if u.GetTotal() != total || u.GetUsed() < used || u.GetUsed() > total || u.GetAvailable() > total-used {
		t.Errorf("stats %v", u)
	}
}

func TestAVolumeWhoseSizeCannotBeEnforcedIsRefused(t *testing.T) {
	for _, d := range disks() {
		t.Run(d.name, func(t *testing.T) {
			driver := serve(t, d.mounted(t, d.account))
			v, err := harness.NewVolume(driver.Client, driver.Host, t.TempDir(), claim(16*mib))
			must(t, err)
			err = v.Create(t.Context())
			for _, words := range []string{"quota", "none"} {
				if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), words) {
					t.Errorf("%v, want InvalidArgument that says %q", err, words)
				}
			}
			c := claim(16 * mib)
			c.Parameters["quota"] = "none"
			v, err = harness.NewVolume(driver.Client, driver.Host, t.TempDir(), c)
			must(t, err)
			must(t, v.Up(t.Context()))
			var s unix.Statfs_t
			must(t, unix.Statfs(v.Target, &s))
			if total := int64(s.Blocks) * s.Bsize; total <= 16*mib {
				t.Errorf("without quota its user sees %d bytes", total)
			}
			must(t, v.Down(t.Context()))
		})
	}
}
