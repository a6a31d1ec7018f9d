package conformance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

func TestForeignDataIsNeverTouched(t *testing.T) {
	onEachRow(t, func(t *testing.T, row rows.Row) {
		ctx := t.Context()
		s := row.Setup(t)
		foreign := s.Foreign(t)
		before := photograph(t, foreign)

		// What isn't blank isn't taken, unless the administrator says so.
		d := harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{s.Datastore(pool)}})
		if !row.Can().Shared {
			refused(t, "create on storage that isn't blank", d.Volume(t, claim("ext4")).Create(ctx), code(codes.Unavailable), pool, "initialize")
		}
		if diff := before.Diff(photograph(t, foreign)); diff != "" {
			t.Errorf("refusing changed foreign data:\n%s", diff)
		}
		must(t, d.SetDatastores(s.Initialized(pool)))
		serving(t, d, pool)
		all := s.Camera()
		blank := photographAtRest(t, all)

		var volumes []*harness.Volume
		for fs := range rows.Filesystems() {
			v := d.Volume(t, claim(fs))
			must(t, v.Up(ctx))
			volumes = append(volumes, v)
		}
		must(t, d.Crash(ctx))
		for _, v := range volumes {
			must(t, v.Down(ctx))
		}
		// What is planted in a volume's place is none, and its name is free.
		for _, name := range append(rows.Planted(), "foreign", "evil") {
			c := claim("ext4")
			c.Name = name
			v := d.Volume(t, c)
			must(t, v.Up(ctx))
			must(t, v.Down(ctx))
		}
		must(t, all.Settles(ctx, blank, settleLimit))
		must(t, d.Restart(ctx))
		serving(t, d, pool)
		must(t, all.Settles(ctx, blank, settleLimit))
		if diff := before.Diff(photograph(t, foreign)); diff != "" {
			t.Errorf("foreign data is no longer what it was:\n%s", diff)
		}
	})
}

// A folder of a volume that is swapped for a link between two calls: the link is not followed.
func TestALinkPlantedInAVolumesPlaceIsNotFollowed(t *testing.T) {
	onBenchesThat(t, func(c rows.Can) bool { return c.Images }, func(t *testing.T, b bench) {
		ctx := t.Context()
		for _, whole := range []bool{true, false} {
			t.Run(fmt.Sprintf("the folder=%v", whole), func(t *testing.T) {
				v := b.Volume(t, claim("ext4"))
				must(t, v.Create(ctx))
				image, err := b.Content(v.ID)
				must(t, err)
				planted := image.Path
				if whole {
					planted = filepath.Dir(planted)
				}
				aside := filepath.Join(harness.Dir(t), "aside")
				must(t, harness.Run("cp", "-a", "--sparse=always", planted, aside))
				must(t, os.Rename(planted, planted+".true"))
				must(t, os.Symlink(aside, planted))
				outside := harness.Camera{Files: []string{aside}}
				before := photograph(t, outside)

				must(t, v.Attach(ctx))
				refused(t, "stage through a link", v.Stage(ctx), notThisOne())
				_, err = v.Expand(ctx, v.Size+100*mib)
				refused(t, "expand through a link", err, notThisOne())
				must(t, v.Detach(ctx))
				short, cancel := context.WithTimeout(ctx, brokenLimit)
				err = v.Delete(short)
				cancel()
				if err == nil && whole {
					t.Log("deleted; the link stands for nothing of the volume")
				}
				if diff := before.Diff(photograph(t, outside)); diff != "" {
					t.Errorf("what a planted link shows was changed:\n%s", diff)
				}
				must(t, os.RemoveAll(planted))
				must(t, os.Rename(planted+".true", planted))
				must(t, harness.Retry(ctx, v.Delete))
			})
		}
	})
}

// notThisOne are the codes for storage that isn't the volume asked for.
func notThisOne() []codes.Code {
	return code(codes.FailedPrecondition, codes.NotFound, codes.Unavailable, codes.DataLoss)
}
