package unreadable

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
	"github.com/datastore-csi/datastore-csi/test/testbed"
)

// binaryVariable names the driver's binary to the machine.
const binaryVariable = "DATASTORE_CSI_TEST_BINARY"

func TestMain(m *testing.M) {
	if os.Getenv(testbed.GuestVariable) == "" {
		dir, err := buildForMachine()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		testbed.Inside("-disk", "3G", "-disk", "3G", "-share", dir, "-module", "loop") // never returns here
	}
	os.Exit(m.Run())
}

// buildForMachine builds the driver beside the test's own program, which is removed with it.
func buildForMachine() (dir string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(filepath.Dir(self), "datastore-csi")
	return filepath.Dir(self), errors.Join(harness.Build(binary), os.Setenv(binaryVariable, binary))
}

// The bytes of a formatted volume can't be read, wholly or in part: staging fails, doesn't take it for blank, and finds the
// old data once it can be read.
func TestAVolumeThatCannotBeReadIsNotTakenForBlank(t *testing.T) {
	for pool, disk := range map[string]string{"ext4": "/dev/ubda", "xfs": "/dev/ubdb"} {
		t.Run("pool on "+pool, func(t *testing.T) {
			d, device := serve(t, pool, disk)
			for fs, bytes := range rows.Filesystems() {
				t.Run(fs, func(t *testing.T) {
					v, err := harness.NewVolume(d.Client, d.Host, t.TempDir(), harness.Claim{
						Name: "vol-" + fs, Filesystem: fs, Bytes: bytes, Parameters: map[string]string{"datastore": "pool"},
					})
					must(t, err)
					makeUnreadable(t, v, device)
				})
			}
		})
	}
}

// device is the mapped device that the pool lies on.
type device struct {
	name, disk, path string
	sectors          int64
}

// serve makes a pool on a mapped device and a driver that serves it.
func serve(t *testing.T, fs, disk string) (*harness.Driver, device) {
	t.Helper()
	sectors, err := sectorsOf(disk)
	must(t, err)
	d := device{name: "pool-" + fs, disk: disk, path: filepath.Join(t.TempDir(), "pool"), sectors: sectors}
	must(t, harness.Run("dmsetup", "create", d.name, "--table", table(disk, []piece{{0, sectors, false}})))
	must(t, harness.Run("dmsetup", "mknodes"))
	must(t, harness.Mkfs(fs, "/dev/mapper/"+d.name))
	must(t, os.Mkdir(d.path, 0o755))
	must(t, unix.Mount("/dev/mapper/"+d.name, d.path, fs, 0, ""))
	mounted := d.path
	t.Cleanup(func() {
		must(t, unix.Unmount(mounted, 0))
		must(t, harness.Run("dmsetup", "remove", d.name))
	})
	inside := filepath.Join(mounted, "datastore")
	must(t, os.Mkdir(inside, 0o755))
	driver := harness.NewDriver(t, harness.Options{
		Dir: t.TempDir(), Program: os.Getenv(binaryVariable), Datastores: []harness.Datastore{harness.Directory("pool", inside)},
	})
	d.path = inside
	must(t, driver.Start(t.Context()))
	return driver, d
}

func makeUnreadable(t *testing.T, v *harness.Volume, d device) {
	ctx := t.Context()
	data := harness.Data{Seed: v.Name, Bytes: 1 << 20}
	must(t, harness.Retry(ctx, v.Create))
	must(t, v.Attach(ctx))
	must(t, v.Stage(ctx))
	must(t, v.Publish(ctx))
	must(t, data.WriteFile(filepath.Join(v.Target, "data")))
	must(t, v.Unpublish(ctx))
	must(t, v.Unstage(ctx))
	images, err := filepath.Glob(filepath.Join(d.path, "volumes", v.ID+"-*", "disk.img"))
	must(t, err)
	if len(images) != 1 {
		t.Fatalf("the volume's image: %v", images)
	}
	extents, err := extentsOf(images[0])
	must(t, err)
	first, rest := extents[0], extents[1:]
	for name, bad := range map[string][]piece{
		"all of it":               slices.Clone(extents),
		"its first block":         {{first.begin, min(first.sectors, 8), true}},
		"all but its first block": append([]piece{{first.begin + 8, first.sectors - 8, true}}, rest...),
	} {
		must(t, reload(d.name, d.disk, cut(d.sectors, bad)))
		err := v.Stage(ctx)
		if code := status.Code(err); code == codes.OK || code == codes.DataLoss {
			t.Errorf("with %s unreadable, staging says %v: %v", name, code, err)
		}
		must(t, errors.Join(v.Unstage(ctx), reload(d.name, d.disk, []piece{{0, d.sectors, false}})))
		must(t, harness.Retry(ctx, v.Stage))
		must(t, v.Publish(ctx))
		if err := data.CheckFile(filepath.Join(v.Target, "data")); err != nil {
			t.Errorf("readable again, after %s was not: %v", name, err)
		}
		for _, undo := range []func(context.Context) error{v.Unpublish, v.Unstage} {
			must(t, undo(ctx))
		}
	}
	must(t, v.Detach(ctx))
	must(t, v.Delete(ctx))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
