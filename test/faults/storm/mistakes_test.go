package storm

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// wrong is a call that can't be right, whatever there is; it must be refused with one of these codes and change nothing.
type wrong struct {
	name  string
	codes []codes.Code
	call  func(context.Context, *caller) error
}

func refusedWith(all ...codes.Code) []codes.Code { return all }

// creating is a CreateVolume of a volume that never is.
func creating(change func(*csi.CreateVolumeRequest)) func(context.Context, *caller) error {
	return func(ctx context.Context, c *caller) error {
		request := harness.Claim{
			Name: fmt.Sprintf("wrong-%d", c.number), Block: true, Bytes: mib, Parameters: map[string]string{"datastore": pool},
		}.Request()
		change(request)
		_, err := c.driver.CreateVolume(ctx, request)
		return err
	}
}

// about is a call about a volume that never was.
func about(id string, call func(*harness.Volume, context.Context) error) func(context.Context, *caller) error {
	return func(ctx context.Context, c *caller) error {
		return call(&harness.Volume{
			Claim: harness.Claim{Block: true}, Client: c.driver.Client, ID: id, Host: c.driver.Host,
			PublishContext: map[string]string{"generation": "1"}, Staging: c.dir + "/wrong", Target: c.dir + "/wrong/target",
		}, ctx)
	}
}

func mistakes() []wrong {
	invalid := refusedWith(codes.InvalidArgument)
	return []wrong{
		{"create without a name", invalid, creating(func(r *csi.CreateVolumeRequest) { r.Name = "" })},
		{"create without capabilities", invalid, creating(func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = nil })},
		{"create with an unknown parameter", invalid, creating(func(r *csi.CreateVolumeRequest) { r.Parameters["colour"] = "red" })},
		{"create on an unknown datastore", invalid, creating(func(r *csi.CreateVolumeRequest) { r.Parameters["datastore"] = "none" })},
		{"create for several nodes", invalid, creating(func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities[0].AccessMode.Mode = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
		})},
		{"create with a negative size", invalid, creating(func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = -1 })},
		{"create with a limit below the size", refusedWith(codes.OutOfRange), creating(func(r *csi.CreateVolumeRequest) { r.CapacityRange.LimitBytes = mib / 2 })},
		{"create what is larger than the pool", refusedWith(codes.ResourceExhausted), creating(func(r *csi.CreateVolumeRequest) {
			r.CapacityRange.RequiredBytes = 1 << 50
		})},
		{"create what is larger than anything", refusedWith(codes.OutOfRange, codes.ResourceExhausted), creating(func(r *csi.CreateVolumeRequest) {
			r.CapacityRange.RequiredBytes = math.MaxInt64
		})},
		{"delete without an ID", invalid, about("", (*harness.Volume).Delete)},
		{"delete a path", refusedWith(codes.OK, codes.NotFound, codes.InvalidArgument), about("../volumes", (*harness.Volume).Delete)},
		{"delete a stranger", refusedWith(codes.OK), about("stranger", (*harness.Volume).Delete)},
		{"attach a stranger", refusedWith(codes.NotFound), about("stranger", (*harness.Volume).Attach)},
		{"stage a stranger", refusedWith(codes.NotFound), about("stranger", (*harness.Volume).Stage)},
		{"publish a stranger", refusedWith(codes.NotFound), about("stranger", (*harness.Volume).Publish)},
		{"list from nowhere", refusedWith(codes.Aborted), func(ctx context.Context, c *caller) error {
			_, err := c.driver.ListVolumes(ctx, &csi.ListVolumesRequest{StartingToken: "nowhere"})
			return err
		}},
		{"expand without a size", invalid, func(ctx context.Context, c *caller) error {
			_, err := c.driver.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: "stranger"})
			return err
		}},
	}
}

// copyMistakes are for drivers that make snapshots and copies.
func copyMistakes() []wrong {
	stranger := &harness.Snapshot{ID: "stranger"}
	return []wrong{
		{"snapshot a stranger", refusedWith(codes.NotFound), func(ctx context.Context, c *caller) error {
			return (&harness.Snapshot{Client: c.driver.Client, Name: "wrong", Volume: "stranger"}).Create(ctx)
		}},
		{"snapshot without a name", refusedWith(codes.InvalidArgument), func(ctx context.Context, c *caller) error {
			return (&harness.Snapshot{Client: c.driver.Client, Volume: "stranger"}).Create(ctx)
		}},
		{"delete a strange snapshot", refusedWith(codes.OK), func(ctx context.Context, c *caller) error {
			return (&harness.Snapshot{Client: c.driver.Client, ID: "stranger"}).Delete(ctx)
		}},
		{"restore a strange snapshot", refusedWith(codes.NotFound), creating(func(r *csi.CreateVolumeRequest) {
			r.VolumeContentSource = stranger.Source()
		})},
	}
}

// mistake makes a call that can't be right.
func (c *caller) mistake(ctx context.Context, random *rand.Rand) error {
	all := mistakes()
	if c.can.snapshots {
		all = append(all, copyMistakes()...)
	}
	w := all[random.IntN(len(all))]
	return c.expect(ctx, w.name, func(ctx context.Context) error { return w.call(ctx, c) }, w.codes...)
}

// expect makes a call that is about no object. It must be answered with one of the codes, default OK, unless it was disturbed.
func (c *caller) expect(ctx context.Context, what string, call func(context.Context) error, want ...codes.Code) error {
	epoch, err := c.reaper.begin(ctx)
	if err != nil {
		return err
	}
	err = call(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.calls++
	c.notef("%d %s: %.200v", c.calls, what, err)
	code := status.Code(err)
	if len(want) == 0 {
		want = []codes.Code{codes.OK}
	}
	if slices.Contains(want, code) || (excused(code) && c.reaper.disturbed(epoch, err)) {
		return nil
	}
	return fmt.Errorf("caller %d, call %d: %s: %w, want %v", c.number, c.calls, what, err, want)
}
