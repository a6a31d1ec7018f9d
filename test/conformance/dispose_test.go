package conformance

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// modify calls ControllerModifyVolume.
func modify(ctx context.Context, v *harness.Volume, parameters map[string]string) error {
	_, err := v.Client.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{VolumeId: v.ID, MutableParameters: parameters})
	return err
}

// TestAVolumesEndIsChosenWhileItLives: onDelete by CreateVolume, by ControllerModifyVolume while the volume is in use,
// and by the datastore.
func TestAVolumesEndIsChosenWhileItLives(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		d := harness.Data{Seed: "kept", Bytes: mib}
		must(t, b.SetDatastores(b.Datastore(pool).With("Archive", "volumes", "onDelete")))
		// Told by what happens: the datastore's default is in force once a volume is archived.
		must(t, harness.Eventually(ctx, settleLimit, func() error {
			v := b.Volume(t, harness.Claim{Block: true, Bytes: mib, Parameters: in(pool)})
			if err := inSeries(ctx, v.Create, v.Delete); err != nil {
				return err
			}
			return wasArchived(b, v)
		}))

		asked := blockClaim()
		asked.Mutable = map[string]string{"onDelete": "retain"}
		retained := inUse(t, b, asked, d)
		must(t, inSeries(ctx, retained.Create, retained.Down)) // a repeat is the same
		names, err := b.Volumes()
		must(t, err)
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, retained.ID) }) {
			t.Errorf("the retained volume %s is not among %v", retained.ID, names)
		}
		withContent(t, b, retained.ID, func(content string) { must(t, d.CheckDevice(content, 0)) })

		changed := inUse(t, b, claim("ext4"), d)
		must(t, modify(ctx, changed, map[string]string{"onDelete": "retain"}))
		must(t, modify(ctx, changed, map[string]string{"wipe": "none"})) // what it doesn't name stays
		must(t, modify(ctx, changed, map[string]string{"onDelete": "delete"}))
		must(t, b.Crash(ctx))
		must(t, changed.Down(ctx))
		if err := wasArchived(b, changed); err == nil {
			t.Errorf("volume %s was to be deleted and is archived", changed.ID)
		}
		names, err = b.Volumes()
		must(t, err)
		if slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, changed.ID) }) {
			t.Errorf("volume %s was to be deleted and is still there", changed.ID)
		}
		// What is kept is no volume any more: the name is free for another, which is empty.
		retained.Mutable = nil
		must(t, retained.Create(ctx))
		must(t, inSeries(ctx, retained.Attach, retained.Stage, retained.Publish))
		if err := holds(retained, d, 0); err == nil {
			t.Error("a new volume holds what a retained one of its name did")
		}
		must(t, retained.Down(ctx))
	})
}

// wasArchived looks for a volume's content and metadata under archived/.
func wasArchived(b bench, v *harness.Volume) error {
	names, err := b.Archived()
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.Contains(name, v.Name) {
			return nil
		}
	}
	return &os.PathError{Op: "look for", Path: filepath.Join("archived", v.Name), Err: os.ErrNotExist}
}

func TestAWrongMutableParameterChangesNothing(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		v := b.Volume(t, blockClaim())
		must(t, v.Create(ctx))
		for name, parameters := range map[string]map[string]string{
			"an unknown key":             {"iops": "100"},
			"an unknown end":             {"onDelete": "explode"},
			"an unknown wipe":            {"wipe": "shred"},
			"a good one beside a bad":    {"onDelete": "retain", "wipe": "shred"},
			"a parameter of the class":   {"provisioning": "thick"},
			"a value in the wrong case":  {"onDelete": "Retain"},
			"an empty value":             {"onDelete": ""},
			"a value with a line's end":  {"wipe": "none\n"},
			"the name in the wrong case": {"OnDelete": "retain"},
		} {
			refused(t, "modify with "+name, modify(ctx, v, parameters), code(codes.InvalidArgument))
			c := blockClaim()
			c.Mutable = parameters
			refused(t, "create with "+name, b.Volume(t, c).Create(ctx), code(codes.InvalidArgument))
		}
		c := blockClaim()
		c.Parameters["onDelete"] = "retain"
		refused(t, "a mutable parameter in the class", b.Volume(t, c).Create(ctx), code(codes.InvalidArgument), "onDelete")
		must(t, v.Delete(ctx))
		if _, err := b.Content(v.ID); err == nil {
			t.Error("a refused change kept the volume")
		}
		refused(t, "modify what is deleted", modify(ctx, v, map[string]string{"onDelete": "retain"}), code(codes.NotFound), v.ID)
	})
}

// TestAZeroedVolumesBytesAreNowhere: after it is deleted with wipe zero, its bytes are not on the disk below.
func TestAZeroedVolumesBytesAreNowhere(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		c := blockClaim()
		c.Parameters = in(pool, "provisioning", b.Can().Provisioning[len(b.Can().Provisioning)-1])
		c.Mutable = map[string]string{"wipe": "zero"}
		v := b.Volume(t, c)
		err := v.Create(ctx)
		if !b.Can().Wipes {
			refused(t, "wipe zero where old blocks can't be reached", err, code(codes.InvalidArgument), "wipe", "zero")
			return
		}
		must(t, err)
		secret := harness.Data{Seed: "secret", Bytes: mib}
		must(t, inSeries(ctx, v.Attach, v.Stage, v.Publish))
		must(t, store(v, secret, 4*mib))
		must(t, b.Below(t, secret, true))
		must(t, v.Down(ctx))
		must(t, harness.Eventually(ctx, settleLimit, func() error { return b.Below(t, secret, false) }))
	})
}
