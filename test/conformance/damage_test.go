package conformance

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// What happens to the bytes of a formatted volume behind the driver's back, and what staging must say to it. In no case may it
// make a file system: where the bytes come back, the data does.
func TestAFormattedVolumeIsNeverFormattedAgain(t *testing.T) {
	damages := map[string]struct {
		do   func(t *testing.T, content, fs string)
		want []codes.Code
	}{
		"it reads blank":                     {blank, code(codes.DataLoss)},
		"only its first MiB reads blank":     {blankHead, code(codes.DataLoss, codes.FailedPrecondition)},
		"it has another file system's UUID":  {otherUUID, code(codes.FailedPrecondition)},
		"it has another type of file system": {otherType, code(codes.FailedPrecondition)},
		"it holds something else":            {otherContent, code(codes.FailedPrecondition, codes.DataLoss)},
	}
	onEachBench(t, func(t *testing.T, b bench) {
		for i, name := range slices.Sorted(maps.Keys(damages)) {
			fs := b.filesystem(i)
			damage := damages[name]
			t.Run(fs+": "+name, func(t *testing.T) {
				neverAgain(t, b, fs, damage.want, func(t testing.TB, id string) func() {
					var aside string
					withContent(t, b, id, func(content string) {
						var err error
						aside, err = harness.SetAside(t, content)
						must(t, err)
						damage.do(t.(*testing.T), content, fs)
					})
					return func() {
						withContent(t, b, id, func(content string) { must(t, harness.BringBack(aside, content)) })
					}
				})
			})
		}
	})
}

// What happens to its place.
func TestWhatStandsInAVolumesPlaceIsNotTakenForIt(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		for i, loss := range b.Losses() {
			fs := b.filesystem(i)
			t.Run(fs+": "+loss.Name, func(t *testing.T) { neverAgain(t, b, fs, notThisOne(), loss.Do) })
		}
	})
}

// neverAgain damages a volume that holds data, stages it in vain, and finds the data once the damage is undone.
func neverAgain(t *testing.T, b bench, fs string, want []codes.Code, damage func(testing.TB, string) (undo func())) {
	ctx := t.Context()
	v := b.Volume(t, claim(fs))
	must(t, v.Up(ctx))
	d := harness.Data{Seed: "precious", Bytes: 2 * mib}
	must(t, store(v, d, 0))
	must(t, v.Unpublish(ctx))
	must(t, v.Unstage(ctx))

	undo := damage(t, v.ID)
	camera := b.camera(filepath.Dir(v.Staging))
	before := photograph(t, camera)
	refused(t, "stage", v.Stage(ctx), want, v.ID)
	refused(t, "stage again", v.Stage(ctx), want, v.ID)
	must(t, v.Unstage(ctx))
	// The kernel lets go of a loop device when its last user does, who may be a stranger that looks around.
	must(t, camera.Settles(ctx, before, settleLimit))
	undo()
	must(t, harness.Retry(ctx, v.Stage)) // a device that was looked for in vain may take a moment
	must(t, v.Publish(ctx))
	must(t, holds(v, d, 0))
	must(t, v.Down(ctx))
}

// withContent opens the bytes of a volume that isn't staged.
func withContent(t testing.TB, b bench, id string, use func(path string)) {
	t.Helper()
	content, err := b.Content(id)
	must(t, err)
	defer func() { must(t, content.Close()) }()
	use(content.Path)
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	n, err := harness.DeviceBytes(path)
	must(t, err)
	return n
}

func blank(t *testing.T, content, _ string) { must(t, harness.Blank(content)) }

func blankHead(t *testing.T, content, _ string) { must(t, harness.BlankPart(content, 0, mib)) }

func otherUUID(t *testing.T, content, fs string) {
	blank(t, content, fs)
	option := map[string]string{"ext4": "-U", "xfs": "-muuid=", "btrfs": "-U"}[fs]
	id := uuid.NewString()
	if fs == "xfs" {
		must(t, harness.Mkfs(fs, content, option+id))
		return
	}
	must(t, harness.Mkfs(fs, content, option, id))
}

func otherType(t *testing.T, content, fs string) {
	blank(t, content, fs)
	if fs == "ext4" {
		must(t, harness.Mkfs("ext4", content, "-O", "^has_journal,^extent,^64bit", "-t", "ext2"))
		must(t, harness.Run("mkswap", content))
		return
	}
	must(t, harness.Mkfs("ext4", content))
}

func otherContent(t *testing.T, content, fs string) {
	n := size(t, content)
	blank(t, content, fs)
	must(t, (harness.Data{Seed: "noise", Bytes: min(n, 8*mib)}).WriteDevice(content, 0))
}

// A volume on which a file system was damaged while it lay unused.
func TestADamagedFileSystemIsRefusedAndTheRepairIsNamed(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		v := b.Volume(t, claim("ext4"))
		must(t, v.Create(ctx))
		must(t, v.Attach(ctx))
		withContent(t, b, v.ID, func(content string) {
			// An inode table that no preen can put right: the root's own inode cleared.
			must(t, harness.Run("debugfs", "-w", "-R", "clri <2>", content))
			must(t, harness.Run("debugfs", "-w", "-R", "set_super_value state 2", content)) // EXT2_ERROR_FS
		})
		// Preening may have changed the volume itself; nothing else is different.
		camera := b.camera(filepath.Dir(v.Staging))
		mounts, records := harness.Camera{Under: camera.Under}, harness.Camera{Files: []string{b.StageRecords()}}
		before, none := photograph(t, mounts), photograph(t, records)
		refused(t, "stage a damaged file system", v.Stage(ctx), code(codes.FailedPrecondition), "fsck", v.ID)
		if diff := before.Diff(photograph(t, mounts)); diff != "" {
			t.Errorf("the refused stage left mounts or devices:\n%s", diff)
		}
		must(t, v.Unstage(ctx))
		if diff := none.Diff(photograph(t, records)); diff != "" {
			t.Errorf("unstaging what was refused left records:\n%s", diff)
		}
		must(t, v.Detach(ctx))
		must(t, v.Delete(ctx))
	})
}

// What a power cut leaves behind: a journal with work in it.
func TestADirtyJournalIsReplayedByMounting(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		for fs := range rows.Filesystems() {
			t.Run(fs, func(t *testing.T) { dirty(t, b, fs) })
		}
	})
}

func dirty(t *testing.T, b bench, fs string) {
	ctx := t.Context()
	v := b.Volume(t, claim(fs))
	must(t, v.Up(ctx))
	var all []harness.Data
	for i := range 8 {
		d := harness.Data{Seed: fmt.Sprintf("fsynced %d", i), Bytes: 300 << 10}
		must(t, store(v, d, 0))
		all = append(all, d)
	}
	instant := filepath.Join(harness.Dir(t), "instant")
	b.Instant(t, v.ID, instant)
	must(t, v.Unpublish(ctx))
	must(t, v.Unstage(ctx))
	withContent(t, b, v.ID, func(content string) { must(t, harness.BringBack(instant, content)) })
	must(t, v.Stage(ctx))
	must(t, v.Publish(ctx))
	for _, d := range all {
		must(t, holds(v, d, 0))
	}
	must(t, v.Down(ctx))
}
