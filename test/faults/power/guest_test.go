package power

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// What the host tells the guest, in the environment.
const (
	partVariable   = "DATASTORE_CSI_TEST_PART"
	poolVariable   = "DATASTORE_CSI_TEST_POOL" // the file system of the pool
	binaryVariable = "DATASTORE_CSI_TEST_BINARY"
)

const (
	mib = int64(1) << 20

	pool = "pool"
	// Where the machine's two disks are mounted: the pool, and what a host keeps over its restarts.
	poolPath, hostPath = "/pool", "/host"
	poolDisk, hostDisk = "/dev/ubda", "/dev/ubdb"

	// callLimit bounds what the guest waits for.
	callLimit = time.Minute
)

// guest is one boot of the machine.
type guest struct {
	*harness.Driver
	volumes []*harness.Volume
}

// runGuest plays the guest's part and returns the exit code.
func runGuest(part string) int {
	ctx := context.Background()
	parts := map[string]func(context.Context) error{"write": write, "leave": leave, "verify": verify}
	play, ok := parts[part]
	if !ok {
		fmt.Fprintln(os.Stderr, "no such part:", part)
		return 2
	}
	if err := play(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		return 1
	}
	return 0
}

// claims are the volumes that each machine has, by their names.
func claims() map[string]harness.Claim {
	all := map[string]harness.Claim{}
	parameters := map[string]string{"datastore": pool}
	for fs, bytes := range rows.Filesystems() {
		all["vol-"+fs] = harness.Claim{Name: "vol-" + fs, Filesystem: fs, Bytes: bytes, Parameters: parameters}
	}
	all["vol-tree"] = harness.Claim{Name: "vol-tree", Bytes: 64 * mib, Parameters: map[string]string{
		"datastore": pool, "format": "subdirectory", "quota": "none",
	}}
	all["vol-block"] = harness.Claim{Name: "vol-block", Block: true, Bytes: 64 * mib, Parameters: parameters}
	return all
}

// start mounts the disks, which are made at the first boot, and starts the driver.
func start(ctx context.Context, first bool) (*guest, error) {
	fs := os.Getenv(poolVariable)
	if first {
		if err := errors.Join(harness.Mkfs(fs, poolDisk), harness.Mkfs("ext4", hostDisk)); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(os.MkdirAll(poolPath, 0o755), os.MkdirAll(hostPath, 0o755)); err != nil {
		return nil, err
	}
	if err := errors.Join(unix.Mount(poolDisk, poolPath, fs, 0, ""), unix.Mount(hostDisk, hostPath, "ext4", 0, "")); err != nil {
		return nil, fmt.Errorf("mount the disks: %w", err)
	}
	if first && fs == "ext4" {
		if err := os.Remove(filepath.Join(poolPath, "lost+found")); err != nil {
			return nil, err
		}
	}
	return serve(ctx)
}

func serve(ctx context.Context) (*guest, error) {
	d, err := harness.PrepareDriver(harness.Options{
		Dir: hostPath, Program: os.Getenv(binaryVariable), Datastores: []harness.Datastore{harness.Directory(pool, poolPath)},
	})
	if err != nil {
		return nil, err
	}
	g := &guest{Driver: d}
	all := claims()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		v, err := harness.NewVolume(d.Client, d.Host, filepath.Join(hostPath, name), all[name])
		if err != nil {
			return nil, err
		}
		g.volumes = append(g.volumes, v)
	}
	return g, d.Start(ctx)
}

// up brings a volume up as after a start: all calls again, whatever was done before.
func up(ctx context.Context, v *harness.Volume) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	for _, call := range []func(context.Context) error{v.Create, v.Attach, v.Stage, v.Publish} {
		if err := harness.Retry(ctx, call); err != nil {
			return fmt.Errorf("bring %s up: %w", v.Name, err)
		}
	}
	return nil
}

// block is what one write is; a volume's n-th write is Data{name-n}, in a file of its own or at an offset.
const block = 256 << 10

func data(v *harness.Volume, n int) harness.Data {
	return harness.Data{Seed: fmt.Sprintf("%s-%d", v.Name, n), Bytes: block}
}

func put(v *harness.Volume, n int) error {
	if v.Block {
		return data(v, n).WriteDevice(v.Target, int64(n)*block)
	}
	return data(v, n).WriteFile(filepath.Join(v.Target, fmt.Sprint(n)))
}

func check(v *harness.Volume, n int) error {
	if v.Block {
		return data(v, n).CheckDevice(v.Target, int64(n)*block)
	}
	return data(v, n).CheckFile(filepath.Join(v.Target, fmt.Sprint(n)))
}

// writes is how many there are of each volume at most.
const writes = 48

// write is a first boot: it writes and tells the host of each write that is safe, until the power is cut.
func write(ctx context.Context) error {
	g, err := start(ctx, true)
	if err != nil {
		return err
	}
	for _, v := range g.volumes {
		if err := up(ctx, v); err != nil {
			return err
		}
	}
	if err := g.growOnline(ctx); err != nil {
		return err
	}
	for n := range writes {
		for _, v := range g.volumes {
			if err := put(v, n); err != nil {
				return err
			}
			fmt.Printf("SAFE %s %d\n", v.Name, n)
		}
		if n%4 == 3 { // volumes come and go all the time
			if err := g.churn(ctx, n); err != nil {
				return err
			}
		}
	}
	<-g.Ended() // or the power's end
	return errors.New("the driver ended before the power did: " + g.Log())
}

// hasSize tells whether a volume's file system is as large as it is. A sub-directory without quota has that of its pool.
func hasSize(v *harness.Volume) bool { return !v.Block && v.Parameters["quota"] != "none" }

// growOnline grows each volume while it is in use: ext4 too, which the host's kernel may not let us.
func (g *guest) growOnline(ctx context.Context) error {
	for _, v := range g.volumes {
		var before, after unix.Statfs_t
		if err := unix.Statfs(v.Target, &before); err != nil {
			return err
		}
		bytes := v.Size + 128*mib
		if _, err := v.Expand(ctx, bytes); err != nil {
			return fmt.Errorf("grow %s: %w", v.Name, err)
		}
		if err := v.NodeExpand(ctx, bytes); err != nil {
			return fmt.Errorf("grow %s on the node: %w", v.Name, err)
		}
		if err := unix.Statfs(v.Target, &after); err != nil {
			return err
		}
		if grown := int64(after.Blocks)*after.Bsize - int64(before.Blocks)*before.Bsize; hasSize(v) && grown < 100*mib {
			return fmt.Errorf("%s was to grow by 128 MiB and grew by %d bytes", v.Name, grown)
		}
	}
	return nil
}

// churn makes a volume, uses it, and deletes it.
func (g *guest) churn(ctx context.Context, n int) error {
	c := harness.Claim{Name: fmt.Sprintf("churn-%d", n), Filesystem: "ext4", Bytes: 32 * mib, Parameters: map[string]string{"datastore": pool}}
	v, err := harness.NewVolume(g.Client, g.Host, filepath.Join(hostPath, "churn"), c)
	if err != nil {
		return err
	}
	if err := v.Up(ctx); err != nil {
		return err
	}
	return v.Down(ctx)
}

// leave is the first boot of a machine that is shut down in order, but for what CSI's caller leaves undone.
func leave(ctx context.Context) error {
	g, err := start(ctx, true)
	if err != nil {
		return err
	}
	for _, v := range g.volumes {
		if err := errors.Join(up(ctx, v), put(v, 0)); err != nil {
			return err
		}
		fmt.Printf("SAFE %s 0\n", v.Name)
	}
	if err := g.Stop(); err != nil {
		return err
	}
	unix.Sync()
	return nil
}

// verify is the next boot: what was safe stands in the environment.
func verify(ctx context.Context) error {
	g, err := start(ctx, false)
	if err != nil {
		return err
	}
	var errs []error
	for _, v := range g.volumes {
		safe := 0
		if _, err := fmt.Sscan(os.Getenv(safeVariable(v.Name)), &safe); err != nil {
			return fmt.Errorf("what of %s was safe: %w", v.Name, err)
		}
		if err := up(ctx, v); err != nil {
			errs = append(errs, err)
			continue
		}
		for n := range safe {
			errs = append(errs, check(v, n))
		}
		errs = append(errs, v.Down(ctx))
		fmt.Printf("CHECKED %s %d\n", v.Name, safe)
	}
	errs = append(errs, g.leaveNothing(ctx))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w\nthe calls:\n%s\nthe driver's log:\n%s", err, g.Calls(60), g.Log())
	}
	return g.Stop()
}

func safeVariable(volume string) string {
	return "DATASTORE_CSI_TEST_SAFE_" + strings.ToUpper(strings.ReplaceAll(volume, "-", "_"))
}

// leaveNothing ends the lives that the cut interrupted, and checks that nothing is left of any.
func (g *guest) leaveNothing(ctx context.Context) error {
	listed, err := g.Listed(ctx)
	if err != nil {
		return err
	}
	churn := filepath.Join(hostPath, "churn")
	for id := range listed {
		v := harness.Volume{Client: g.Client, ID: id, Host: g.Host, Staging: filepath.Join(churn, "staging"), Target: filepath.Join(churn, "pod", "target")}
		for _, undo := range []func(context.Context) error{v.Unpublish, v.Unstage, v.Detach, v.Delete} {
			if err := harness.Retry(ctx, undo); err != nil {
				return fmt.Errorf("end %s: %w", id, err)
			}
		}
	}
	return harness.Eventually(ctx, callLimit, func() error {
		var left []string
		for _, folder := range []string{"volumes", ".datastore-csi/tmp", ".datastore-csi/trash"} {
			entries, err := os.ReadDir(filepath.Join(poolPath, folder))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			for _, e := range entries {
				left = append(left, folder+"/"+e.Name())
			}
		}
		records, err := os.ReadDir(g.StageRecords())
		if err == nil && len(left)+len(records) > 0 {
			err = fmt.Errorf("all volumes are deleted, left are %v, stage records %v", left, records)
		}
		return err
	})
}
