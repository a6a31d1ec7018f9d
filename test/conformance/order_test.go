package conformance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

func TestCallsInTheWrongOrderAreRefusedAndHarmNothing(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		for _, c := range []harness.Claim{claim("ext4"), blockClaim()} {
			t.Run(fmt.Sprintf("block=%v", c.Block), func(t *testing.T) { wrongOrder(t, b, c) })
		}
	})
}

func wrongOrder(t *testing.T, b bench, c harness.Claim) {
	ctx := t.Context()
	v := b.Volume(t, c)
	camera := b.camera(filepath.Dir(v.Staging))
	before := photograph(t, camera)
	precondition := code(codes.FailedPrecondition)
	must(t, v.Create(ctx))

	refused(t, "stage before attach", v.Stage(ctx), code(codes.FailedPrecondition, codes.InvalidArgument)) // it has no publish context
	refused(t, "publish before attach", v.Publish(ctx), precondition)
	must(t, v.Attach(ctx))
	refused(t, "publish before stage", v.Publish(ctx), precondition)
	refused(t, "delete while attached", v.Delete(ctx), precondition, b.Host)
	must(t, v.Unpublish(ctx))
	must(t, v.Unstage(ctx))

	must(t, v.Stage(ctx))
	must(t, v.Publish(ctx))
	d := harness.Data{Seed: "order", Bytes: mib}
	must(t, store(v, d, 0))
	refused(t, "delete while published", v.Delete(ctx), precondition)
	// A CO must not unstage now. Whatever the answer, the pod keeps its data.
	refused(t, "unstage while published", v.Unstage(ctx), code(codes.OK, codes.FailedPrecondition))
	must(t, holds(v, d, 0))
	must(t, v.Stage(ctx))
	must(t, holds(v, d, 0))

	// The volume can be reached from this host only, so a detach is granted; deletion waits for the host.
	refused(t, "detach while staged", v.Detach(ctx), code(codes.OK, codes.FailedPrecondition, codes.Unavailable))
	refused(t, "delete while staged", v.Delete(ctx), precondition)
	must(t, holds(v, d, 0))
	must(t, v.Unpublish(ctx))
	must(t, v.Unstage(ctx))
	must(t, v.Detach(ctx))
	refused(t, "stage after detach", v.Stage(ctx), precondition)
	must(t, v.Unstage(ctx))
	must(t, v.Delete(ctx))

	missing := code(codes.NotFound)
	refused(t, "attach what is deleted", v.Attach(ctx), missing)
	refused(t, "stage what is deleted", v.Stage(ctx), missing)
	refused(t, "publish what is deleted", v.Publish(ctx), missing)
	_, err := v.Expand(ctx, gib)
	refused(t, "expand what is deleted", err, missing)
	refused(t, "validate what is deleted", validate(ctx, v), missing)
	refused(t, "detach what is deleted", v.Detach(ctx), code(codes.OK, codes.NotFound))
	refused(t, "unpublish what is deleted", v.Unpublish(ctx), code(codes.OK, codes.NotFound))
	refused(t, "unstage what is deleted", v.Unstage(ctx), code(codes.OK, codes.NotFound))
	must(t, v.Delete(ctx))
	must(t, camera.Settles(ctx, before, settleLimit))
}

func TestAnAttachmentIsKnownByItsGeneration(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		v := b.Volume(t, claim("ext4"))
		must(t, v.Create(ctx))
		must(t, v.Attach(ctx))
		old := v.PublishContext
		must(t, v.Attach(ctx))
		if fmt.Sprint(v.PublishContext) != fmt.Sprint(old) {
			t.Errorf("attached twice: the publish context was %v and is %v", old, v.PublishContext)
		}
		must(t, v.Detach(ctx))
		must(t, v.Attach(ctx))
		current := v.PublishContext
		v.PublishContext = old
		refused(t, "stage with the context of an attachment that is gone", v.Stage(ctx), code(codes.FailedPrecondition))
		v.PublishContext = current
		must(t, v.Stage(ctx))
		refused(t, "attach otherwise", v.AttachReadOnly(ctx), code(codes.AlreadyExists))
		_, err := b.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: v.ID, NodeId: "nobody", VolumeCapability: v.Capability()})
		refused(t, "attach to a host that is not known", err, code(codes.NotFound), "nobody")
		must(t, v.Unstage(ctx))
		_, err = b.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: v.ID}) // from all hosts
		must(t, err)
		must(t, v.Delete(ctx))
	})
}

func TestTheListSaysWhereVolumesAreAttached(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		all := map[string]*harness.Volume{}
		for range 7 {
			v := b.Volume(t, blockClaim())
			must(t, v.Create(ctx))
			all[v.ID] = v
		}
		for _, v := range all {
			must(t, v.Attach(ctx))
			break
		}
		seen := map[string]bool{}
		for token := ""; ; {
			page, err := b.ListVolumes(ctx, &csi.ListVolumesRequest{MaxEntries: 3, StartingToken: token})
			must(t, err)
			if len(page.GetEntries()) > 3 {
				t.Fatalf("asked for 3, got %d", len(page.GetEntries()))
			}
			for _, e := range page.GetEntries() {
				id := e.GetVolume().GetVolumeId()
				if seen[id] || all[id] == nil {
					t.Errorf("%s is listed twice, or is none of ours", id)
				}
				seen[id] = true
				attached := all[id] != nil && all[id].PublishContext != nil
				if hosts := e.GetStatus().GetPublishedNodeIds(); (len(hosts) == 1 && hosts[0] == b.Host) != attached {
					t.Errorf("%s is attached=%v and listed at %v", id, attached, hosts)
				}
			}
			if token = page.GetNextToken(); token == "" {
				break
			}
		}
		if len(seen) != len(all) {
			t.Errorf("%d volumes are listed, %d were made", len(seen), len(all))
		}
		_, err := b.ListVolumes(ctx, &csi.ListVolumesRequest{StartingToken: "no token of yours"})
		refused(t, "an invalid token", err, code(codes.Aborted))
		_, err = b.ListVolumes(ctx, &csi.ListVolumesRequest{MaxEntries: -1})
		refused(t, "a negative number of entries", err, code(codes.InvalidArgument))
		for _, v := range all {
			must(t, v.Detach(ctx))
			must(t, v.Delete(ctx))
		}
	})
}

// A walk at random through all calls, in any order and repetition, against a model of what must hold.
func TestAWalkThroughAllCallsAtRandom(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		var walkers []*walker
		for _, c := range []harness.Claim{claim("ext4"), claim("btrfs"), blockClaim(), blockClaim()} {
			v := b.Volume(t, c)
			v.ID = v.Name
			walkers = append(walkers, &walker{Volume: v, camera: b.camera(filepath.Dir(v.Staging))})
		}
		before := photograph(t, b.camera())
		for range 300 {
			walkers[random.IntN(len(walkers))].move(t, random)
			if t.Failed() {
				break
			}
		}
		for _, w := range walkers {
			for _, call := range []func(context.Context) error{w.Unpublish, w.Unstage, w.Detach, w.Delete} {
				refused(t, "at the end", call(t.Context()), code(codes.OK, codes.NotFound))
			}
		}
		must(t, b.camera().Settles(t.Context(), before, settleLimit))
	})
}

// walker is a volume and what a CO knows of it.
type walker struct {
	*harness.Volume
	camera                                harness.Camera
	made, attached, staged, published, in bool
}

func (w *walker) move(t *testing.T, random *rand.Rand) {
	t.Helper()
	ctx := t.Context()
	data := harness.Data{Seed: "walk", Bytes: mib}
	fine, precondition, absent := code(codes.OK), code(codes.FailedPrecondition), code(codes.OK, codes.NotFound)
	exists := func(c []codes.Code) []codes.Code {
		if !w.made {
			return code(codes.NotFound)
		}
		return c
	}
	when := func(allowed bool, c []codes.Code) []codes.Code {
		if allowed {
			return c
		}
		return precondition
	}
	state := fmt.Sprintf("made=%v attached=%v staged=%v published=%v", w.made, w.attached, w.staged, w.published)
	try := func(what string, err error, want []codes.Code) bool {
		t.Helper()
		refused(t, what+" when "+state, err, want)
		return status.Code(err) == codes.OK
	}
	switch random.IntN(9) {
	case 0, 1:
		w.made = try("create", w.Create(ctx), fine) || w.made
	case 2:
		w.attached = try("attach", w.Attach(ctx), exists(fine)) || w.attached
	case 3:
		want := exists(when(w.attached, fine))
		if w.PublishContext == nil {
			want = append(want, codes.InvalidArgument)
		}
		w.staged = try("stage", w.Stage(ctx), want) || w.staged
	case 4:
		w.published = try("publish", w.Publish(ctx), exists(when(w.staged && w.attached, fine))) || w.published
	case 5:
		if try("unpublish", w.Unpublish(ctx), absent) {
			w.published = false
		}
	case 6:
		if w.published {
			return // what a CO must not ask; TestCallsInTheWrongOrder does
		}
		if try("unstage", w.Unstage(ctx), absent) {
			w.staged = false
		}
	case 7:
		if w.staged {
			return
		}
		if try("detach", w.Detach(ctx), absent) {
			w.attached, w.PublishContext = false, nil
		}
	case 8:
		if try("delete", w.Delete(ctx), when(!w.attached && !w.staged && !w.published, fine)) {
			w.made, w.in = false, false
		}
	}
	w.use(t, data)
}

// use writes what is published for the first time, and reads it ever after.
func (w *walker) use(t *testing.T, d harness.Data) {
	t.Helper()
	if !w.published || t.Failed() {
		return
	}
	if !w.in {
		must(t, store(w.Volume, d, 0))
		w.in = true
	}
	must(t, holds(w.Volume, d, 0))
}
