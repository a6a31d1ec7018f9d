package conformance

import (
	"fmt"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

func TestAVolumeIsNeverSmallerThanAskedForNorLargerThanAllowed(t *testing.T) {
	type ask struct {
		fs              string
		required, limit int64
		least, most     int64 // 0, 0: refused
	}
	cases := map[string]ask{
		"nothing said":                          {"ext4", 0, 0, gib, gib},
		"a byte more than 64 MiB":               {"ext4", 64*mib + 1, 0, 64*mib + 1, 65 * mib},
		"an odd size with an equal limit":       {"ext4", 64*mib + 1, 64*mib + 1, 0, 0},
		"a size with an equal limit":            {"ext4", 64 * mib, 64 * mib, 64 * mib, 64 * mib},
		"only a limit":                          {"ext4", 0, 100 * mib, 1, 100 * mib},
		"only a limit above the default":        {"ext4", 0, 3 * gib, 1, 3 * gib},
		"one byte":                              {"", 1, 0, 1, mib},
		"one byte with a file system":           {"ext4", 1, 0, 1, 64 * mib},
		"xfs of 200 MiB":                        {"xfs", 200 * mib, 0, 300 * mib, 301 * mib},
		"xfs of 200 MiB with room up to 1 GiB":  {"xfs", 200 * mib, gib, 300 * mib, 301 * mib},
		"xfs of 200 MiB and not over 250":       {"xfs", 200 * mib, 250 * mib, 0, 0},
		"xfs with a limit below the least":      {"xfs", 0, 100 * mib, 0, 0},
		"btrfs of 10 MiB":                       {"btrfs", 10 * mib, 0, 10 * mib, 256 * mib},
		"btrfs with a limit below the least":    {"btrfs", 0, mib, 0, 0},
		"a raw block device of a byte over MiB": {"", mib + 1, 0, mib + 1, 2 * mib},
	}
	onEachBench(t, func(t *testing.T, b bench) {
		for name, c := range cases {
			// The most that is made is to the next MiB, or what sizes are multiples of.
			c.least, c.most = b.Can().Round(c.least), b.Can().Round(c.most)
			t.Run(name, func(t *testing.T) {
				v := b.Volume(t, harness.Claim{Block: c.fs == "", Filesystem: c.fs, Bytes: c.required, Limit: c.limit, Parameters: in(pool)})
				err := v.Create(t.Context())
				if c.most == 0 {
					refused(t, "create", err, code(codes.OutOfRange))
					if err == nil {
						must(t, v.Delete(t.Context()))
					}
					return
				}
				must(t, err)
				if v.Size < c.least || v.Size > c.most {
					t.Errorf("made with %d bytes, want %d to %d", v.Size, c.least, c.most)
				}
				must(t, v.Attach(t.Context()))
				must(t, v.Stage(t.Context()))
				must(t, v.Publish(t.Context()))
				must(t, tryWrite(v, v.Target))
				if real, err := visible(v); v.Block && (err != nil || real != v.Size) {
					t.Errorf("the device has %d bytes, %v; the answer said %d", real, err, v.Size)
				}
				must(t, v.Down(t.Context()))
			})
		}
	})
}

func TestAVolumeGrowsByTheSameRules(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		for fs := range rows.Filesystems() {
			v := b.Volume(t, claim(fs))
			must(t, v.Create(ctx))
			was := v.Size
			expand := func(required, limit int64) (int64, error) {
				answer, err := b.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{
					VolumeId: v.ID, VolumeCapability: v.Capability(), CapacityRange: &csi.CapacityRange{RequiredBytes: required, LimitBytes: limit},
				})
				return answer.GetCapacityBytes(), err
			}
			if n, err := expand(mib, 0); err != nil || n != was {
				t.Errorf("%s: expanded to less than it has: %d, %v; it has %d", fs, n, err, was)
			}
			if n, err := expand(was, was); err != nil || n != was {
				t.Errorf("%s: expanded to what it has: %d, %v", fs, n, err)
			}
			_, err := expand(mib, was-mib)
			refused(t, fs+": expanded with a limit below what it has", err, code(codes.OutOfRange))
			_, err = expand(was+100*mib+1, was+100*mib+1)
			refused(t, fs+": expanded to an odd size with an equal limit", err, code(codes.OutOfRange))
			_, err = expand(-1, 0)
			refused(t, fs+": expanded to a negative size", err, code(codes.OutOfRange, codes.InvalidArgument))
			_, err = expand(1<<62, 0)
			refused(t, fs+": expanded to 4 EiB", err, code(codes.OutOfRange))
			n, err := expand(was+100*mib+1, 0)
			if must(t, err); n < was+100*mib+1 || n > was+101*mib+max(mib, b.Can().Granularity) {
				t.Errorf("%s: asked for %d bytes, expanded to %d", fs, was+100*mib+1, n)
			}
			must(t, v.Delete(ctx))
		}
	})
}

// Options of the tool that makes the file system, as far as they are allowed, do what they say.
func TestMkfsOptionsReachTheFileSystem(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		c := claim("ext4")
		c.Parameters = in(pool, "mkfsOptions", "-m 0 -N 4096")
		v := b.Volume(t, c)
		must(t, v.Up(ctx))
		answer, err := b.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: v.ID, VolumePath: v.Target})
		must(t, err)
		text := fmt.Sprint(answer.GetUsage())
		for _, u := range answer.GetUsage() {
			if u.GetUnit() == csi.VolumeUsage_INODES && (u.GetTotal() < 4096 || u.GetTotal() > 5000) {
				t.Errorf("asked for 4096 inodes: %s", text)
			}
			// The kernel itself keeps 2% of an ext4 (s_resv_clusters); the default would keep 5% more.
			if kept := u.GetTotal() - u.GetUsed() - u.GetAvailable(); u.GetUnit() == csi.VolumeUsage_BYTES && kept > u.GetTotal()*4/100 {
				t.Errorf("asked for no reserved blocks: %s", text)
			}
		}
		must(t, v.Down(ctx))
	})
}
