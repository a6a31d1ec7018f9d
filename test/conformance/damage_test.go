package conformance

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// What happens to a formatted volume behind the driver's back, and what staging must say to it. In no case may it make a
// file system: where the bytes come back, the data does.
func TestAFormattedVolumeIsNeverFormattedAgain(t *testing.T) {
	damages := map[string]struct {
		do   func(t *testing.T, content, fs string)
		want []codes.Code
	}{
		"it reads blank":                      {blank, code(codes.DataLoss)},
		"only its first MiB reads blank":      {blankHead, code(codes.DataLoss, codes.FailedPrecondition)},
		"it has another file system's UUID":   {otherUUID, code(codes.FailedPrecondition)},
		"it has another type of file system":  {otherType, code(codes.FailedPrecondition)},
		"it holds something else":             {otherContent, code(codes.FailedPrecondition, codes.DataLoss)},
		"it is gone":                          {gone, notThisOne()},
		"another file stands in its place":    {replaced, notThisOne()},
		"a blank file stands in its place":    {replacedBlank, notThisOne()},
		"it was cut short":                    {short, notThisOne()},
		"a folder stands in its place":        {folder, notThisOne()},
		"it is a device node of another disk": {node, notThisOne()},
	}
	onEachBench(t, func(t *testing.T, b bench) {
		for i, name := range slices.Sorted(maps.Keys(damages)) {
			fs := b.filesystem(i)
			t.Run(fs+": "+name, func(t *testing.T) { neverAgain(t, b, fs, damages[name].do, damages[name].want) })
		}
	})
}

func neverAgain(t *testing.T, b bench, fs string, damage func(t *testing.T, content, fs string), want []codes.Code) {
	ctx := t.Context()
	v := b.Volume(t, claim(fs))
	must(t, v.Up(ctx))
	d := harness.Data{Seed: "precious", Bytes: 2 * mib}
	must(t, store(v, d, 0))
	must(t, v.Unpublish(ctx))
	must(t, v.Unstage(ctx))

	content, err := b.Content(v.ID)
	must(t, err)
	aside := filepath.Join(harness.Dir(t), "aside")
	must(t, harness.Run("cp", "--sparse=always", content, aside))
	damage(t, content, fs)
	camera := b.camera(filepath.Dir(v.Staging))
	before := photograph(t, camera)
	refused(t, "stage", v.Stage(ctx), want, v.ID)
	refused(t, "stage again", v.Stage(ctx), want, v.ID)
	must(t, v.Unstage(ctx))
	// The kernel lets go of a loop device when its last user does, who may be a stranger that looks around.
	must(t, camera.Settles(ctx, before, settleLimit))
	restore(t, content, aside)
	must(t, v.Stage(ctx))
	must(t, v.Publish(ctx))
	must(t, holds(v, d, 0))
	must(t, v.Down(ctx))
}

// restore brings a volume's bytes back into the very file where that still exists, else as the file that was put aside by
// the damage, else anew.
func restore(t *testing.T, content, aside string) {
	t.Helper()
	if _, err := os.Lstat(content + ".true"); err == nil {
		must(t, os.RemoveAll(content))
		must(t, os.Rename(content+".true", content))
		return
	}
	info, err := os.Stat(aside)
	must(t, err)
	must(t, os.Truncate(content, 0))
	must(t, harness.Run("dd", "if="+aside, "of="+content, "bs=1M", "conv=notrunc,sparse", "status=none"))
	must(t, os.Truncate(content, info.Size()))
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	return info.Size()
}

func blank(t *testing.T, content, _ string) {
	n := size(t, content)
	must(t, os.Truncate(content, 0))
	must(t, os.Truncate(content, n))
}

func blankHead(t *testing.T, content, _ string) {
	f, err := os.OpenFile(content, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.Write(make([]byte, mib))
	must(t, err)
	must(t, f.Close())
}

func format(t *testing.T, content, fs string) {
	t.Helper()
	blank(t, content, fs)
	option := map[string]string{"ext4": "-U", "xfs": "-muuid=", "btrfs": "-U"}[fs]
	id := uuid.NewString()
	if fs == "xfs" {
		must(t, harness.Mkfs(fs, content, option+id))
		return
	}
	must(t, harness.Mkfs(fs, content, option, id))
}

func otherUUID(t *testing.T, content, fs string) { format(t, content, fs) }

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

func moveAway(t *testing.T, content string) {
	t.Helper()
	must(t, os.Rename(content, content+".true"))
}

func gone(t *testing.T, content, _ string) { moveAway(t, content) }

func replaced(t *testing.T, content, fs string) {
	n := size(t, content)
	moveAway(t, content)
	must(t, os.WriteFile(content, nil, 0o600))
	must(t, os.Truncate(content, n))
	format(t, content, fs)
}

func replacedBlank(t *testing.T, content, _ string) {
	n := size(t, content)
	moveAway(t, content)
	must(t, os.WriteFile(content, nil, 0o600))
	must(t, os.Truncate(content, n))
}

func short(t *testing.T, content, _ string) { must(t, os.Truncate(content, size(t, content)/2)) }

func folder(t *testing.T, content, _ string) {
	moveAway(t, content)
	must(t, os.Mkdir(content, 0o755))
}

func node(t *testing.T, content, _ string) {
	moveAway(t, content)
	must(t, unix.Mknod(content, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 0))))
}

// A volume on which a file system was damaged while it lay unused.
func TestADamagedFileSystemIsRefusedAndTheRepairIsNamed(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		v := b.Volume(t, claim("ext4"))
		must(t, v.Create(ctx))
		must(t, v.Attach(ctx))
		content, err := b.Content(v.ID)
		must(t, err)
		// An inode table that no preen can put right: the root's own inode cleared.
		must(t, harness.Run("debugfs", "-w", "-R", "clri <2>", content))
		must(t, harness.Run("debugfs", "-w", "-R", "set_super_value state 2", content)) // EXT2_ERROR_FS
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
	content, err := b.Content(v.ID)
	must(t, err)
	instant := filepath.Join(harness.Dir(t), "instant")
	b.Instant(t, v.ID, instant)
	must(t, v.Unpublish(ctx))
	must(t, v.Unstage(ctx))
	restore(t, content, instant)
	must(t, v.Stage(ctx))
	must(t, v.Publish(ctx))
	for _, d := range all {
		must(t, holds(v, d, 0))
	}
	must(t, v.Down(ctx))
}
