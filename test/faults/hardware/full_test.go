package hardware

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// A thin pool is filled by what is really written, and then extended: what was synced before is there, file systems pass their
// checks, and volumes work again.
func TestAPoolThatDidFillKeepsItsDataAndWorksOnceItIsExtended(t *testing.T) {
	ctx := t.Context()
	g := newGroup(t, "filled", 1, 2*gib, 512*mib)
	d := harness.StartDriver(t, harness.Options{
		Datastores: []harness.Datastore{g.datastore().With(400, "capacity", "overcommitPercent")}, Metrics: true,
	})
	serving(t, d)
	kept := harness.Data{Seed: "kept", Bytes: 4 * mib}
	var volumes []*harness.Volume
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		v := d.Volume(t, claim(fs))
		must(t, v.Up(ctx))
		must(t, write(v, kept))
		volumes = append(volumes, v)
	}
	raw := d.Volume(t, harness.Claim{Block: true, Bytes: 768 * mib, Parameters: in()})
	must(t, raw.Up(ctx))
	err := (harness.Data{Seed: "too much", Bytes: 768 * mib}).WriteDevice(raw.Target, 0)
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EIO) {
		t.Errorf("writing 768 MiB into a pool of 512 that has some: %v", err)
	}
	refused(t, "create on a full pool", d.Volume(t, harness.Claim{Block: true, Bytes: 4 * mib, Parameters: in()}).Create(ctx), codes.InvalidArgument)
	for _, v := range volumes {
		if err := holds(v, kept); err != nil {
			t.Errorf("%s, while the pool is full: %v", v.Filesystem, err)
		}
	}
	for _, v := range append(volumes, raw) {
		must(t, inSeries(ctx, v.Unpublish, v.Unstage))
	}
	g.lvm(t, "lvextend", "--size", "+1g", g.name+"/"+g.thin)
	serving(t, d)
	for _, v := range volumes {
		must(t, inSeries(ctx, v.Stage, v.Publish))
		must(t, holds(v, kept))
		must(t, write(v, harness.Data{Seed: "after", Bytes: mib}))
		must(t, inSeries(ctx, v.Unpublish, v.Unstage))
		g.whole(t, v)
		must(t, inSeries(ctx, v.Detach, v.Delete))
	}
	more := harness.Data{Seed: "all of it", Bytes: 256 * mib}
	must(t, inSeries(ctx, raw.Stage, raw.Publish))
	must(t, more.WriteDevice(raw.Target, 512*mib))
	must(t, more.CheckDevice(raw.Target, 512*mib))
	must(t, inSeries(ctx, raw.Unpublish, raw.Unstage, raw.Detach, raw.Delete))
}

// whole checks the file system of a volume that nobody uses with the tool for it.
func (g *group) whole(t *testing.T, v *harness.Volume) {
	t.Helper()
	lv := g.volume(t, v.ID)
	g.lvm(t, "lvchange", "--activate", "y", "--ignoreactivationskip", g.name+"/"+lv)
	path := g.mapped(t, v.ID)
	check := map[string][]string{
		"ext4": {"e2fsck", "-f", "-n", path}, "xfs": {"xfs_repair", "-n", path}, "btrfs": {"btrfs", "check", "--readonly", path},
	}[v.Filesystem]
	must(t, harness.Run(check[0], check[1:]...))
	g.lvm(t, "lvchange", "--activate", "n", g.name+"/"+lv)
}

// volume is the name of a volume's logical volume.
func (g *group) volume(t *testing.T, id string) string {
	t.Helper()
	vg, err := harness.ReadVolumeGroup(g.disks[0].Path)
	must(t, err)
	for name := range vg.Sections["logical_volumes"] {
		if len(name) == len(id)+9 && name[:len(id)] == id {
			return name
		}
	}
	t.Fatalf("no logical volume of volume %s", id)
	return ""
}
