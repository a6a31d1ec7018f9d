package tree

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/partition"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
)

// blankDisk makes a device of a sparse file.
func blankDisk(t *testing.T) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk.img")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 512*mib))
	device := strings.TrimSpace(run(t, "losetup", "-f", "--show", image))
	t.Cleanup(func() { run(t, "losetup", "-d", device) })
	return device
}

func newPartition(t *testing.T, device, fsType, dir string) datastore.Pool {
	t.Helper()
	loops, err := loop.New(loop.Config{})
	must(t, err)
	p, err := partition.Type().New(t.Context(), datastore.Config{
		Datastore: &v1alpha1.Datastore{
			ObjectMeta: metav1.ObjectMeta{Name: "fast"},
			Spec: v1alpha1.DatastoreSpec{Type: v1alpha1.TypePartition, Partition: &v1alpha1.PartitionSpec{
				Device: device, FSType: fsType, Provision: v1alpha1.ProvisionIfEmpty,
			}},
		},
		ClusterID: "cluster-a", MachineID: "0123456789abcdef0123456789abcdef", Claims: &datastore.Claims{},
		Tools: datastore.Tools{
			Command: command.New(command.Config{}), Loop: loops, Now: time.Now, NewUUID: uuid.NewString,
			MountDir: filepath.Join(dir, "mounts"), StateDir: filepath.Join(dir, "state"),
		},
	})
	must(t, err)
	return p
}

// A partition that the driver formats limits sub-directories and, with xfs, shares blocks, with nothing to do for the
// administrator.
func TestAPartitionThatTheDriverFormatsLimitsSubdirectories(t *testing.T) {
	for _, fsType := range []string{"ext4", "xfs"} {
		t.Run(fsType, func(t *testing.T) {
			device, dir := blankDisk(t), t.TempDir()
			at := filepath.Join(dir, "mounts", "fast")
			p := newPartition(t, device, fsType, dir)
			t.Cleanup(func() { must(t, unix.Unmount(at, 0)) })
			for range 2 { // once more after a reboot
				status, err := p.Status(t.Context())
				must(t, err)
				if !slices.Contains(status.Features, v1alpha1.SubdirectoryQuota) || slices.Contains(status.Features, v1alpha1.InstantCopies) != (fsType == "xfs") {
					t.Errorf("features %v, findings %+v", status.Features, status.Findings)
				}
				must(t, unix.Unmount(at, 0))
			}
			v := subdirectory("v-1", 16*mib)
			opened := create(t, p, v)
			target := t.TempDir()
			must(t, os.Chmod(filepath.Dir(target), 0o755))
			must(t, unix.Mount(opened.Dir, target, "", unix.MS_BIND, ""))
			if took := asUser(t, target, 32*mib); took > 16*mib || took < 15*mib {
				t.Errorf("%d bytes could be written", took)
			}
			must(t, unix.Unmount(target, 0))
			remove(t, p, v)
			wantNoProjects(t, at)
		})
	}
}
