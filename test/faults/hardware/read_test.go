package hardware

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

func fmtBytes(n int64) string { return strconv.FormatInt(n, 10) + "b" }

// place is where a thick volume lies on the group's only disk, in bytes. Its device must be active.
func (g *group) place(t *testing.T, id string) (first, bytes int64) {
	t.Helper()
	table, err := harness.Tool("dmsetup", "table", g.mapped(t, id))
	must(t, err)
	var begin, sectors, at int64
	var device string
	if _, err := fmt.Sscanf(table, "%d %d linear %s %d", &begin, &sectors, &device, &at); err != nil || strings.Count(strings.TrimSpace(table), "\n") > 0 {
		t.Fatalf("the table of volume %s is %q: %v", id, table, err)
	}
	return at * 512, sectors * 512
}

// A formatted volume of which the disk gives nothing, or not its beginning, or nothing else: it is not taken for blank, staging
// fails, and finds the old data once the disk reads again.
func TestWhatCannotBeReadIsNotTakenForBlank(t *testing.T) {
	g := newGroup(t, "unread", 1, 2*gib, 0)
	d := serve(t, g)
	disk := g.disks[0]
	for _, fs := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			ctx := t.Context()
			v := d.Volume(t, claim(fs))
			must(t, v.Up(ctx))
			data := harness.Data{Seed: "old", Bytes: mib}
			must(t, write(v, data))
			first, bytes := g.place(t, v.ID)
			must(t, errors.Join(v.Unpublish(ctx), v.Unstage(ctx)))
			for _, bad := range []struct {
				name string
				do   func() error
			}{
				{"all of the disk", disk.Fail},
				{"all of the volume", func() error { return disk.FailAt(first, bytes) }},
				{"its first block", func() error { return disk.FailAt(first, 4096) }},
				{"its superblocks", func() error { return disk.FailAt(first, 128<<10) }},
				{"all but its first block", func() error { return disk.FailAt(first+4096, bytes-4096) }},
			} {
				must(t, bad.do())
				refused(t, "stage with "+bad.name+" unreadable", bounded(t, "stage", v.Stage), codes.DataLoss)
				must(t, disk.Recover())
				must(t, harness.Retry(ctx, v.Unstage))
				must(t, inSeries(ctx, v.Stage, v.Publish))
				if err := holds(v, data); err != nil {
					t.Errorf("readable again, after %s was not: %v", bad.name, err)
				}
				must(t, inSeries(ctx, v.Unpublish, v.Unstage))
			}
			must(t, inSeries(ctx, v.Detach, v.Delete))
		})
	}
}
