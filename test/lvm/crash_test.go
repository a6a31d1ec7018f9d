package lvm

import (
	"context"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// death is what ends a call at a step, as the end of the process would.
type death struct{}

// dieAt runs something that ends before its step of that number, and tells what that was; "" says that it has fewer steps.
func dieAt(ctx context.Context, number int, do func(context.Context) error) (what string, err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(death); !ok {
				panic(r)
			}
		}
	}()
	n := 0
	err = do(step.WithHook(ctx, func(_, change string) {
		if n++; n == number {
			what = change
			panic(death{})
		}
	}))
	return what, err
}

// A process that dies before any change of the world is followed by one that repeats the call: what comes of it is the same, and nothing is left.
func TestAnyStepMayBeTheLast(t *testing.T) {
	answered := map[string]int{}
	for name, kind := range kinds() {
		r := newRig(t, 1, kind)
		for _, c := range []struct {
			name string
			act  func(r *rig, ctx context.Context, v, source, snap datastore.Volume) error
		}{
			{"create raw", func(r *rig, ctx context.Context, v, _, _ datastore.Volume) error {
				_, err := r.Create(ctx, v, nil, nil)
				return err
			}},
			{"create with ext4", func(r *rig, ctx context.Context, v, _, _ datastore.Volume) error {
				v.Access, v.Filesystem = v1alpha1.Filesystem, &v1alpha1.FilesystemSpec{Type: "ext4", UUID: v.UID}
				v.Bytes = 16 * mib
				_, err := r.Create(ctx, v, nil, nil)
				return err
			}},
			{"copy a volume", func(r *rig, ctx context.Context, v, source, _ datastore.Volume) error {
				_, err := r.Create(ctx, v, &source, nil)
				return err
			}},
			{"restore a larger one", func(r *rig, ctx context.Context, v, _, snap datastore.Volume) error {
				v.Bytes = 16 * mib
				_, err := r.Create(ctx, v, &snap, nil)
				return err
			}},
			{"create, expand, delete and reclaim", func(r *rig, ctx context.Context, v, _, _ datastore.Volume) error {
				larger := v
				larger.Bytes = 12 * mib
				calls := []func() error{
					func() error { _, err := r.Create(ctx, v, nil, nil); return err },
					func() error { _, err := r.Expand(ctx, larger); return err },
					func() error { return r.Delete(ctx, v, datastore.Disposal{}) },
					func() error { return r.Reclaim(ctx) },
				}
				for ; answered[v.UID] < len(calls); answered[v.UID]++ { // the one that died is repeated, not those that were answered
					if err := calls[answered[v.UID]](); err != nil {
						return err
					}
				}
				return nil
			}},
		} {
			t.Run(name+": "+c.name, func(t *testing.T) {
				r.t = t
				source := r.volume("source", 8*mib, "")
				r.create(source)
				want := fill(t, r.opened(source).Device, 7)
				r.closed(source)
				snap := r.snap("snap", source, "100%")
				points := 0
				for number := 1; ; number++ {
					r.open() // which knows of no clean extents
					v := r.volume("v", 8*mib, "")
					act := func(ctx context.Context) error { return c.act(r, ctx, v, source, snap) }
					what, err := dieAt(t.Context(), number, act)
					if what == "" {
						must(t, err)
						r.remove(v)
						break
					}
					points++
					r.open()
					if err := act(t.Context()); err != nil {
						t.Fatalf("died before %q, then: %v", what, err)
					}
					if strings.Contains(c.name, "copy") || strings.Contains(c.name, "restore") {
						if sum(t, r.opened(v).Device, 8*mib) != want {
							t.Errorf("died before %q: the copy is not its source", what)
						}
						r.closed(v)
					}
					r.remove(v)
				}
				t.Logf("%d points", points)
				r.remove(source)
				r.remove(snap)
				must(t, r.Reclaim(t.Context()))
				must(t, r.Reclaim(t.Context()))
				if lvs := run(t, "lvs", "--noheadings", "-o", "lv_name", "vg"); lvs != "" && lvs != "pool" {
					t.Errorf("left: %s", lvs)
				}
				if left := run(t, "dmsetup", "ls"); kind == nil && left != "No devices found" {
					t.Errorf("active: %s", left)
				}
			})
		}
	}
}
