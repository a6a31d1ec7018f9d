package recover_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

const (
	mib    = 1 << 20
	pool   = "fast"
	settle = 2 * time.Minute
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is a driver with one datastore.
type rig struct {
	*harness.Driver
	rows.Storage
	// before is the storage when the pool was new.
	before harness.Photo
}

func onEachRow(t *testing.T, test func(*testing.T, *rig)) {
	t.Helper()
	onRowsThat(t, func(rows.Can) bool { return true }, test)
}

func onRowsThat(t *testing.T, can func(rows.Can) bool, test func(*testing.T, *rig)) {
	t.Helper()
	for _, row := range rows.All() {
		if !can(row.Can()) {
			continue
		}
		t.Run(row.Name(), func(t *testing.T) {
			r := &rig{Storage: row.Setup(t)}
			r.Driver = harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{r.Datastore(pool)}, Metrics: true})
			must(t, r.serving(t))
			var err error
			r.before, err = r.Camera().Take()
			must(t, err)
			test(t, r)
		})
	}
}

// serving waits until the pool can be used.
func (r *rig) serving(t testing.TB) error {
	return harness.Eventually(t.Context(), settle, func() error {
		bytes, err := r.Available(t.Context(), pool)
		if err == nil && bytes == 0 {
			err = errors.New("no capacity")
		}
		return err
	})
}

// lose stops the driver and removes its state.
func (r *rig) lose(t testing.TB) {
	t.Helper()
	must(t, r.Stop())
	must(t, os.RemoveAll(r.StateDir))
}

// command runs the driver's binary and returns what it prints and its exit code.
func (r *rig) command(t testing.TB, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(harness.Binary(t), args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

func (r *rig) recover(t testing.TB, more ...string) string {
	t.Helper()
	out, code := r.command(t, append([]string{"recover", "--datastores", r.File, "--state-dir", r.StateDir, "--cluster-id", r.ClusterID, "--mount-dir", r.MountDir}, more...)...)
	if code != 0 {
		t.Fatalf("recover %v ended with %d:\n%s", more, code, out)
	}
	return out
}

func in(more ...string) map[string]string {
	p := map[string]string{"datastore": pool}
	for i := 0; i < len(more); i += 2 {
		p[more[i]] = more[i+1]
	}
	return p
}

// up makes, mounts and writes a volume.
func (r *rig) up(t testing.TB, c harness.Claim) (*harness.Volume, harness.Data) {
	t.Helper()
	if c.Parameters == nil {
		c.Parameters = in()
	}
	v := r.Volume(t, c)
	must(t, v.Up(t.Context()))
	d := harness.Data{Seed: v.Name, Bytes: mib}
	if c.Block {
		must(t, d.WriteDevice(v.Target, 0))
	} else {
		must(t, d.WriteFile(filepath.Join(v.Target, "data")))
	}
	return v, d
}

func holds(v *harness.Volume, d harness.Data) error {
	if v.Block {
		return d.CheckDevice(v.Target, 0)
	}
	return d.CheckFile(filepath.Join(v.Target, "data"))
}

func inOrder(ctx context.Context, calls ...func(context.Context) error) error {
	for _, call := range calls {
		if err := harness.Retry(ctx, call); err != nil {
			return err
		}
	}
	return nil
}

// listing is what the driver lists, as text.
func (r *rig) listing(t testing.TB) string {
	t.Helper()
	var out strings.Builder
	volumes, err := r.Listed(t.Context())
	must(t, err)
	for _, id := range slices.Sorted(maps.Keys(volumes)) {
		v := volumes[id].GetVolume()
		fmt.Fprintf(&out, "%s %d %v %v\n", id, v.GetCapacityBytes(), v.GetContentSource(), v.GetAccessibleTopology())
	}
	snapshots, err := r.ListedSnapshots(t.Context())
	must(t, err)
	for _, id := range slices.Sorted(maps.Keys(snapshots)) {
		s := snapshots[id]
		fmt.Fprintf(&out, "%s %d of %s at %v, ready %t\n", id, s.GetSizeBytes(), s.GetSourceVolumeId(), s.GetCreationTime().AsTime(), s.GetReadyToUse())
	}
	return out.String()
}

func TestALostStateIsRecoveredAndLifeGoesOn(t *testing.T) {
	onEachRow(t, func(t *testing.T, r *rig) {
		ctx := t.Context()
		mounted, written := r.up(t, harness.Claim{Bytes: 32 * mib, Filesystem: "ext4"})
		_, err := mounted.Expand(ctx, 48*mib)
		must(t, err)
		block, blocks := r.up(t, harness.Claim{Bytes: 16 * mib, Block: true, Parameters: in("provisioning", "thick")})
		must(t, inOrder(ctx, block.Unpublish, block.Unstage, block.Detach))
		used := map[*harness.Volume]harness.Data{mounted: written} // when the state is lost
		if r.Can().Subdirectories {
			tree, leaves := r.up(t, harness.Claim{Bytes: 16 * mib, Parameters: in("format", "subdirectory", "quota", "none")})
			used[tree] = leaves
		}
		unused := map[*harness.Volume]harness.Data{block: blocks}
		if r.Can().Clones {
			clone := r.Volume(t, harness.Claim{Bytes: 16 * mib, Block: true, Parameters: in("provisioning", "thick"), From: block.Source()})
			must(t, harness.Retry(ctx, clone.Create))
			unused[clone] = blocks
		}
		var snapshots []*harness.Snapshot
		if r.Can().Snapshots {
			snapshots = append(snapshots, block.Snapshot())
			must(t, snapshots[0].Ready(ctx))
		}
		retained := r.Volume(t, harness.Claim{Bytes: mib, Block: true, Parameters: in(), Mutable: map[string]string{"onDelete": "retain"}})
		archived := r.Volume(t, harness.Claim{Bytes: mib, Block: true, Parameters: in(), Mutable: map[string]string{"onDelete": "archive"}})
		must(t, inOrder(ctx, retained.Create, retained.Delete, archived.Create, archived.Delete))
		kept := r.Volume(t, harness.Claim{Bytes: mib, Block: true, Parameters: in(
			"csi.storage.k8s.io/pvc/name", "data", "csi.storage.k8s.io/pvc/namespace", "team")})
		must(t, kept.Create(ctx))
		_, err = r.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{
			VolumeId: kept.ID, MutableParameters: map[string]string{"onDelete": "retain"},
		})
		must(t, err)
		listing := r.listing(t)
		r.lose(t)

		shown := r.recover(t)
		if _, err := os.Stat(r.StateDir); !os.IsNotExist(err) {
			t.Errorf("a dry run made the state directory: %v", err)
		}
		verdicts := map[string]string{kept.ID: "recover", retained.ID: "retained", archived.ID: "archived"}
		for _, those := range []map[*harness.Volume]harness.Data{used, unused} {
			for v := range those {
				verdicts[v.ID] = "recover"
			}
		}
		for _, s := range snapshots {
			verdicts[s.ID] = "recover"
		}
		for id, what := range verdicts {
			if !strings.Contains(lineOf(shown, id), what) {
				t.Errorf("%s is not %q in\n%s", id, what, shown)
			}
		}
		for v := range used {
			if line := lineOf(shown, v.ID); !strings.Contains(line, "in use on this host") {
				t.Errorf("a mounted volume: %s", line)
			}
		}
		recorded := len(verdicts) - 2
		if out := r.recover(t, "--apply"); !strings.Contains(out, fmt.Sprintf("%d recovered", recorded)) {
			t.Errorf("recovered:\n%s", out)
		}
		if out := r.recover(t, "--apply"); !strings.Contains(out, fmt.Sprintf("0 recovered; left as they are: %d recorded, 1 retained, 1 archived", recorded)) {
			t.Errorf("recovered again:\n%s", out)
		}
		must(t, r.Start(ctx))
		must(t, r.serving(t))
		if now := r.listing(t); now != listing {
			t.Errorf("before:\n%s\nnow:\n%s", listing, now)
		}
		for v, d := range used {
			if err := v.Delete(ctx); status.Code(err) != codes.FailedPrecondition {
				t.Errorf("deleting a volume that is mounted: %v", err)
			}
			must(t, holds(v, d))
			if err := v.Unstage(ctx); status.Code(err) != codes.FailedPrecondition {
				t.Errorf("unstaging a volume that is published: %v", err)
			}
			must(t, inOrder(ctx, v.Unpublish, v.Unstage, v.Detach)) // as if nothing had been
		}
		for _, those := range []map[*harness.Volume]harness.Data{used, unused} {
			for v, d := range those {
				must(t, inOrder(ctx, v.Create, v.Attach, v.Stage, v.Publish))
				must(t, holds(v, d))
				must(t, inOrder(ctx, v.Unpublish, v.Unstage, v.Detach))
			}
		}
		for _, s := range snapshots {
			must(t, s.Ready(ctx)) // the same request finds it
			restored := r.Volume(t, harness.Claim{Bytes: 16 * mib, Block: true, Parameters: in(), From: s.Source()})
			must(t, inOrder(ctx, restored.Create, restored.Attach, restored.Stage, restored.Publish))
			must(t, holds(restored, blocks))
			must(t, inOrder(ctx, restored.Down, s.Delete))
		}
		for _, those := range []map[*harness.Volume]harness.Data{used, unused} {
			for v := range those {
				if v != mounted {
					must(t, inOrder(ctx, v.Delete))
				}
			}
		}
		must(t, harness.Eventually(ctx, settle, func() error { // once there is room behind it, on a disk
			_, err := mounted.Expand(ctx, 64*mib)
			return err
		}))
		must(t, inOrder(ctx, mounted.Attach, mounted.Stage, mounted.Publish))
		must(t, holds(mounted, written))
		must(t, inOrder(ctx, mounted.Down, kept.Delete))
		r.keptOnly(t, retained.ID, archived.ID, kept.ID)
		names, err := r.Volumes()
		must(t, err)
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, kept.ID) }) {
			t.Errorf("the volume that was modified to be retained is not among %v", names)
		}
	})
}

// lineOf is the line of a text that names something.
func lineOf(text, name string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, name) {
			return line
		}
	}
	return ""
}

// gptName is how much of an ID stands in a partition's name.
const gptName = 36

// keptOnly waits until nothing lies on the storage but the volumes that were kept when they were deleted.
func (r *rig) keptOnly(t testing.TB, kept ...string) {
	t.Helper()
	must(t, harness.Eventually(t.Context(), settle, func() error {
		now, err := r.Camera().Take()
		if err != nil {
			return err
		}
		for thing, looks := range now {
			if !slices.ContainsFunc(kept, func(id string) bool { return strings.Contains(thing+looks, id[:gptName]) }) && !strings.HasSuffix(thing, "/archived") {
				continue
			}
			delete(now, thing)
		}
		if diff := r.before.Diff(now); diff != "" {
			return fmt.Errorf("left:\n%s", diff)
		}
		return nil
	}))
	if listing := r.listing(t); listing != "" {
		t.Errorf("still listed: %s", listing)
	}
}
