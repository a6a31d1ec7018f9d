package conformance

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// step is one call of a life.
type step struct {
	name string
	call func(context.Context) error
}

// steps are all calls of a volume's life, in order.
func steps(v *harness.Volume) []step {
	grown := int64(0)
	return []step{
		{"create", v.Create},
		{"attach", v.Attach},
		{"validate", func(ctx context.Context) error { return validate(ctx, v) }},
		{"stage", v.Stage},
		{"publish", v.Publish},
		{"expand", func(ctx context.Context) error {
			if grown == 0 {
				grown = v.Size + 100*mib
			}
			_, err := v.Expand(ctx, grown)
			return err
		}},
		{"expand on the node", func(ctx context.Context) error {
			if !v.Block && !harness.GrowsMounted(v.Filesystem) {
				return nil // grow has what is said to this
			}
			return v.NodeExpand(ctx, v.Size)
		}},
		{"unpublish", v.Unpublish},
		{"unstage", v.Unstage},
		{"detach", v.Detach},
		{"delete", v.Delete},
	}
}

func validate(ctx context.Context, v *harness.Volume) error {
	answer, err := v.Client.ValidateVolumeCapabilities(ctx, &csi.ValidateVolumeCapabilitiesRequest{
		VolumeId: v.ID, VolumeCapabilities: []*csi.VolumeCapability{v.Capability()}, Parameters: v.Parameters,
	})
	if err == nil && answer.GetConfirmed() == nil {
		return fmt.Errorf("not confirmed: %s", answer.GetMessage())
	}
	return err
}

func TestEachCallMayComeTwice(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		for name, c := range b.someKinds() {
			t.Run(name, func(t *testing.T) {
				v := b.Volume(t, c)
				camera := b.camera(filepath.Dir(v.Staging))
				before := photograph(t, camera)
				for _, s := range steps(v) {
					if err := s.call(t.Context()); err != nil {
						t.Fatalf("%s: %v", s.name, err)
					}
					id, size := v.ID, v.Size
					if err := s.call(t.Context()); err != nil {
						t.Errorf("%s again: %v", s.name, err)
					}
					if v.ID != id || v.Size != size {
						t.Errorf("%s again: volume %s of %d bytes, before %s of %d", s.name, v.ID, v.Size, id, size)
					}
				}
				must(t, camera.Settles(t.Context(), before, settleLimit))
			})
		}
	})
}

// atOnce makes a call from several callers at the same time. All must succeed or be told that the volume is busy, and one
// must succeed, at the latest when it comes again.
func atOnce(t *testing.T, name string, callers int, call func(ctx context.Context, caller int) error) {
	t.Helper()
	errs := make([]error, callers)
	begin := make(chan struct{})
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			<-begin
			errs[i] = call(t.Context(), i)
		})
	}
	close(begin)
	all.Wait()
	succeeded := 0
	for _, err := range errs {
		switch status.Code(err) {
		case codes.OK:
			succeeded++
		case codes.Aborted:
		default:
			t.Errorf("%s, %d at once: %v", name, callers, err)
		}
	}
	if succeeded == 0 {
		t.Errorf("%s, %d at once: all were told that the volume is busy; by whom?", name, callers)
	}
	if err := harness.Retry(t.Context(), func(ctx context.Context) error { return call(ctx, 0) }); err != nil {
		t.Fatalf("%s once more: %v", name, err)
	}
}

func TestEachCallMayComeEightTimesAtOnce(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		for name, c := range b.someKinds() {
			t.Run(name, func(t *testing.T) {
				const callers = 8
				c.Name = harness.NewName()
				first := b.Volume(t, c)
				camera := b.camera(filepath.Dir(first.Staging))
				before := photograph(t, camera)
				// Each caller has a copy: what Create fills in is its own.
				copies := make([]*harness.Volume, callers)
				life := make([][]step, callers)
				for i := range copies {
					v := *first
					copies[i] = &v
					life[i] = steps(&v)
				}
				for at, s := range steps(first) {
					atOnce(t, s.name, callers, func(ctx context.Context, i int) error { return life[i][at].call(ctx) })
					for _, v := range copies[1:] { // those that were told to come again know nothing
						v.ID, v.Size, v.Answer, v.PublishContext = copies[0].ID, copies[0].Size, copies[0].Answer, copies[0].PublishContext
					}
					if s.name == "create" {
						oneVolume(t, b, copies[0].ID)
					}
				}
				must(t, camera.Settles(t.Context(), before, settleLimit))
			})
		}
	})
}

// oneVolume checks that there is one volume, with that ID, in the list and on the storage.
func oneVolume(t *testing.T, b bench, id string) {
	t.Helper()
	listed, err := b.Listed(t.Context())
	must(t, err)
	lying, err := b.Storage.Volumes()
	must(t, err)
	if len(listed) != 1 || listed[id] == nil || len(lying) != 1 {
		t.Errorf("volume %s was made: listed are %v, on the storage lie %v", id, listed, lying)
	}
}

func TestARepeatWithAnotherWishIsToldSo(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		v := b.Volume(t, claim("ext4"))
		must(t, v.Create(ctx))
		change := map[string]func(*harness.Claim){
			"more bytes":        func(c *harness.Claim) { c.Bytes += gib },
			"a limit below it":  func(c *harness.Claim) { c.Bytes, c.Limit = mib, c.Bytes-mib },
			"xfs":               func(c *harness.Claim) { c.Filesystem = "xfs" },
			"a block device":    func(c *harness.Claim) { c.Block = true },
			"other mkfsOptions": func(c *harness.Claim) { c.Parameters = in(pool, "mkfsOptions", "-m 0") },
		}
		for _, other := range b.Can().Provisioning[1:] {
			change[other] = func(c *harness.Claim) { c.Parameters = in(pool, "provisioning", other) }
		}
		camera := b.Camera()
		before := photograph(t, camera)
		for name, alter := range change {
			c := v.Claim
			alter(&c)
			_, err := b.CreateVolume(ctx, c.Request())
			refused(t, "the same name with "+name, err, code(codes.AlreadyExists), v.Name)
		}
		if diff := before.Diff(photograph(t, camera)); diff != "" {
			t.Errorf("refused requests changed the storage:\n%s", diff)
		}
		smaller := v.Claim
		smaller.Bytes = mib
		if answer, err := b.CreateVolume(ctx, smaller.Request()); err != nil || answer.GetVolume().GetVolumeId() != v.ID {
			t.Errorf("the same name with fewer bytes, which the volume satisfies: %v, %v", answer, err)
		}
		must(t, v.Delete(ctx))
	})
}
