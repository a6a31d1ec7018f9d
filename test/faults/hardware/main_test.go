package hardware

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/faults/crash"
	"github.com/datastore-csi/datastore-csi/test/harness"
)

const (
	mib  = int64(1) << 20
	gib  = int64(1) << 30
	pool = "pool"

	// settleLimit is how long a driver may take to notice that storage broke or is whole again. One CPU does all there.
	settleLimit = 3 * time.Minute
	// callLimit is how long a call may take on storage that fails.
	callLimit = time.Minute
)

func TestMain(m *testing.M) {
	if crash.Asked() {
		os.Exit(crash.Run(os.Args))
	}
	os.Exit(harness.MachineMain(m))
}

// group is a volume group that a test made on disks of its own.
type group struct {
	name  string
	disks []*harness.Slice
	thin  string // the name of its thin pool, or ""
}

const thinPool = "thin"

// newGroup makes a volume group of disks of that size, with a thin pool of so many bytes where that is more than 0.
func newGroup(t *testing.T, name string, disks int, bytes, thin int64) *group {
	t.Helper()
	g := &group{name: name}
	for range disks {
		g.disks = append(g.disks, harness.NewSlice(t, bytes+8*mib))
	}
	args := []string{"--yes", name}
	for _, d := range g.disks {
		args = append(args, d.Path)
	}
	g.lvm(t, "vgcreate", args...)
	if thin > 0 {
		g.thin = thinPool
		g.lvm(t, "lvcreate", "--yes", "--type", "thin-pool", "--size", fmtBytes(thin), "--poolmetadatasize", "4m", "--chunksize", "64k",
			"--name", thinPool, name)
	}
	t.Cleanup(func() {
		t.Helper()
		for _, d := range g.disks {
			must(t, d.Recover())
		}
		g.lvm(t, "vgchange", "--activate", "n", name)
	})
	return g
}

// lvm runs one of LVM's tools on the group's disks.
func (g *group) lvm(t *testing.T, name string, args ...string) string {
	t.Helper()
	var paths []string
	for _, d := range g.disks {
		paths = append(paths, d.Path)
	}
	out, err := harness.Tool(name, append([]string{"--devices", strings.Join(paths, ",")}, args...)...)
	must(t, err)
	return out
}

func (g *group) datastore() harness.Datastore {
	settings := harness.Fields{"volumeGroup": g.name}
	if g.thin != "" {
		settings["thinPool"] = harness.Fields{"name": g.thin}
	}
	return harness.Datastore{Name: pool, Spec: harness.Fields{"type": "lvm", "lvm": settings}}
}

// mapped is the path of a volume's device while it is active; it must be the only one of that ID.
func (g *group) mapped(t *testing.T, id string) string {
	t.Helper()
	devices, err := harness.MappedDevices()
	must(t, err)
	begin := g.name + "-" + strings.ReplaceAll(id, "-", "--") + "--"
	for name := range devices {
		if rest, is := strings.CutPrefix(name, begin); is && len(rest) == 8 {
			return "/dev/mapper/" + name
		}
	}
	t.Fatalf("no device of volume %s is active", id)
	return ""
}

// serve starts a driver with the group as the datastore "pool".
func serve(t *testing.T, g *group) *harness.Driver {
	t.Helper()
	d := harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{g.datastore()}, Await: []string{pool}, Metrics: true})
	serving(t, d)
	return d
}

// serving waits until the datastore takes volumes.
func serving(t *testing.T, d *harness.Driver) {
	t.Helper()
	must(t, harness.Eventually(t.Context(), settleLimit, func() error {
		v := d.Volume(t, harness.Claim{Block: true, Bytes: 4 * mib, Parameters: in()})
		if err := v.Create(t.Context()); err != nil {
			return err
		}
		return harness.Retry(t.Context(), v.Delete)
	}))
}

func in() map[string]string { return map[string]string{"datastore": pool} }

func claim(fs string) harness.Claim {
	bytes := map[string]int64{"ext4": 64 * mib, "xfs": 300 * mib, "btrfs": 128 * mib}[fs]
	return harness.Claim{Filesystem: fs, Bytes: bytes, Parameters: in()}
}

// write writes data into a published volume, holds reads it back.
func write(v *harness.Volume, d harness.Data) error {
	if v.Block {
		return d.WriteDevice(v.Target, 0)
	}
	return d.WriteFile(filepath.Join(v.Target, d.Seed))
}

func holds(v *harness.Volume, d harness.Data) error {
	if v.Block {
		return d.CheckDevice(v.Target, 0)
	}
	return d.CheckFile(filepath.Join(v.Target, d.Seed))
}

func inSeries(ctx context.Context, calls ...func(context.Context) error) error {
	for _, call := range calls {
		if err := harness.Retry(ctx, call); err != nil {
			return err
		}
	}
	return nil
}

// refused checks that a call ended in time with an error that is none of these codes.
func refused(t *testing.T, what string, err error, never ...codes.Code) {
	t.Helper()
	if code := status.Code(err); slices.Contains(append(never, codes.OK), code) {
		t.Errorf("%s: %v (%v)", what, code, err)
	}
}

// bounded makes a call that must end by its deadline or soon after.
func bounded(t *testing.T, what string, call func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	begin := time.Now()
	err := call(ctx)
	if took := time.Since(begin); took > callLimit+30*time.Second {
		t.Errorf("%s took %v", what, took)
	}
	return err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
