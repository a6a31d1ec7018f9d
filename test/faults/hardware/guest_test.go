package hardware

import (
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// asGuest runs a tool with a /dev of its own, in which the device $0 is the only disk: a guest has one, and LVM looks there for names.
const asGuest = `set -e
dev=$(mktemp -d)
mount -t tmpfs guest "$dev"
mkdir "$dev/mapper"
cp -a /dev/mapper/control "$dev/mapper/"
cp -a /dev/null /dev/urandom "$dev/"
cp -a "$0" "$dev/vda"
mount --bind "$dev" /dev
exec "$@"`

// inner is the guest's logical volume while the guest has it active, which the kernel that they share shows.
func inner(t *testing.T, g *group) string {
	t.Helper()
	devices, err := harness.MappedDevices()
	must(t, err)
	m, active := devices[g.name+"-inner"]
	if !active {
		t.Fatal("the guest's volume is not active")
	}
	return "/dev/" + m.Device
}

// A guest makes a volume group in its raw volume, of the same name as the datastore's: the driver neither sees nor touches it,
// whatever else it does.
func TestAGuestsVolumeGroupOfTheSameNameStaysInvisible(t *testing.T) {
	for _, kind := range []struct {
		name string
		thin int64
	}{{"thick", 0}, {"thin", gib}} {
		t.Run(kind.name, func(t *testing.T) {
			ctx := t.Context()
			g := newGroup(t, "twins"+kind.name, 1, 2*gib, kind.thin)
			d := serve(t, g)
			v := d.Volume(t, harness.Claim{Block: true, Bytes: 128 * mib, Parameters: in()})
			must(t, v.Up(ctx))
			guest := g.mapped(t, v.ID)
			inGuest := func(name string, args ...string) {
				t.Helper()
				_, err := harness.Tool("unshare", append([]string{"--mount", "sh", "-c", asGuest, guest, name, "--config", "devices/scan_lvs=1", "--devices", "/dev/vda"}, args...)...)
				must(t, err)
			}
			inGuest("vgcreate", "--yes", g.name, "/dev/vda")
			inGuest("lvcreate", "--yes", "--size", "64m", "--name", "inner", g.name)
			data := harness.Data{Seed: "guest", Bytes: 32 * mib}
			must(t, data.WriteDevice(inner(t, g), 0))
			inGuest("vgchange", "--activate", "n", g.name)
			was, err := harness.DeviceSum(guest)
			must(t, err)

			other := d.Volume(t, claim("ext4"))
			must(t, d.Crash(ctx))
			serving(t, d)
			must(t, inSeries(ctx, other.Create, other.Attach, other.Stage, other.Publish))
			_, err = other.Expand(ctx, other.Size+64*mib)
			must(t, err)
			must(t, d.Restart(ctx))
			must(t, inSeries(ctx, other.Unpublish, other.Unstage, other.Detach, other.Delete))
			serving(t, d)
			if listed, err := d.Listed(ctx); err != nil || len(listed) != 1 {
				t.Errorf("listed are %v, %v", listed, err)
			}
			devices, err := harness.MappedDevices()
			must(t, err)
			for name := range devices {
				if strings.HasSuffix(name, "-inner") {
					t.Errorf("the guest's volume is active as %s", name)
				}
			}
			if now, err := harness.DeviceSum(guest); err != nil || now != was {
				t.Errorf("the guest's volume is no longer what it was (%v)", err)
			}
			inGuest("vgchange", "--activate", "y", g.name)
			must(t, data.CheckDevice(inner(t, g), 0))
			inGuest("vgchange", "--activate", "n", g.name)
			must(t, inSeries(ctx, v.Unpublish, v.Unstage))
			must(t, inSeries(ctx, v.Stage, v.Publish))
			if now, err := harness.DeviceSum(g.mapped(t, v.ID)); err != nil || now != was {
				t.Errorf("staged anew, the guest's volume is no longer what it was (%v)", err)
			}
			must(t, inSeries(ctx, v.Unpublish, v.Unstage, v.Detach, v.Delete))
		})
	}
}
