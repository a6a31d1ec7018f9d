package controller_test

import (
	"sync/atomic"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

func TestModifyChangesWhatIsNamedAndNothingElse(t *testing.T) {
	r := newRig(t, obedient)
	r.has(t, "large", v1alpha1.WipeByZeroes)
	q := ask("v", gib, "datastore", "large")
	q.Mutable = map[string]string{"onDelete": "retain"}
	v := r.create(t, q)
	if v.Spec.OnDelete != v1alpha1.RetainData || v.Spec.Wipe != "" {
		t.Fatalf("created with %q, %q", v.Spec.OnDelete, v.Spec.Wipe)
	}
	for _, step := range []struct {
		set      map[string]string
		onDelete v1alpha1.DeletePolicy
		wipe     v1alpha1.WipePolicy
		writes   bool
	}{
		{map[string]string{"wipe": "zero"}, v1alpha1.RetainData, v1alpha1.WipeZero, true},
		{map[string]string{"wipe": "zero"}, v1alpha1.RetainData, v1alpha1.WipeZero, false},
		{nil, v1alpha1.RetainData, v1alpha1.WipeZero, false},
		{map[string]string{"onDelete": "archive", "wipe": "none"}, v1alpha1.ArchiveData, v1alpha1.WipeNone, true},
		{map[string]string{"onDelete": "delete"}, v1alpha1.DeleteData, v1alpha1.WipeNone, true},
	} {
		before, err := r.Get(t.Context(), "v")
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Modify(t.Context(), "v", step.set); err != nil {
			t.Fatalf("%v: %v", step.set, err)
		}
		now, err := r.Get(t.Context(), "v")
		if err != nil {
			t.Fatal(err)
		}
		if now.Spec.OnDelete != step.onDelete || now.Spec.Wipe != step.wipe || (now.ResourceVersion != before.ResourceVersion) != step.writes {
			t.Errorf("%v: %q, %q, written %t", step.set, now.Spec.OnDelete, now.Spec.Wipe, now.ResourceVersion != before.ResourceVersion)
		}
	}
	// The first request is still the same, and changes nothing back; another one is another one.
	again := r.create(t, q)
	if again.UID != v.UID || again.Spec.OnDelete != v1alpha1.DeleteData {
		t.Errorf("the repeat made or changed a volume: %+v", again.Spec)
	}
	for _, now := range []map[string]string{nil, {"onDelete": "delete"}, {"wipe": "none", "onDelete": "delete"}} {
		q.Mutable = now // what it has by now
		if again := r.create(t, q); again.UID != v.UID {
			t.Errorf("%v made another volume", now)
		}
	}
	q.Mutable = map[string]string{"onDelete": "archive"}
	_, err := r.Create(t.Context(), q)
	want(t, err, fault.Exists, "mutable parameters")
}

func TestMutableParametersThatCantBeAreRefused(t *testing.T) {
	r := newRig(t, obedient)
	v := r.create(t, ask("v", gib, "datastore", "large"))
	for name, c := range map[string]struct {
		set  map[string]string
		says []string
	}{
		"an unknown key":               {map[string]string{"iops": "1"}, []string{"iops", "onDelete", "wipe"}},
		"an unknown value":             {map[string]string{"onDelete": "explode"}, []string{"explode", "archive", "delete", "retain"}},
		"a value in capitals":          {map[string]string{"onDelete": "Retain"}, []string{"Retain"}},
		"an empty value":               {map[string]string{"wipe": ""}, []string{"wipe", "zero"}},
		"a good one beside a bad":      {map[string]string{"onDelete": "retain", "wipe": "shred"}, []string{"shred"}},
		"a wipe that the type lacks":   {map[string]string{"wipe": "discard"}, []string{"large", "discard", "[none, zero]"}},
		"zeroes that would miss bytes": {map[string]string{"wipe": "zero"}, []string{"wipe", "zero", "discard"}},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, r.Modify(t.Context(), "v", c.set), fault.Invalid, c.says...)
			want(t, r.CanBecome(t.Context(), v, c.set), fault.Invalid, c.says...)
			q := ask("w", gib, "datastore", "large")
			q.Mutable = c.set
			_, err := r.Create(t.Context(), q)
			want(t, err, fault.Invalid)
			r.gone(t, "w")
			if now, err := r.Get(t.Context(), "v"); err != nil || now.ResourceVersion != v.ResourceVersion {
				t.Errorf("the record was written, %v", err)
			}
		})
	}
	r.has(t, "large", v1alpha1.WipeByZeroes)
	r.create(t, ask("tree", gib, "datastore", "large", "format", "subdirectory", "quota", "none"))
	want(t, r.Modify(t.Context(), "tree", map[string]string{"wipe": "zero"}), fault.Invalid, "sub-directory")
	want(t, r.Modify(t.Context(), "w", nil), fault.NotFound)
	want(t, r.Modify(t.Context(), "../etc", nil), fault.Invalid)
	r.pool(t, "large", func(p *v1alpha1.PoolStatus) { p.Health = v1alpha1.Unavailable })
	want(t, r.Modify(t.Context(), "v", map[string]string{"wipe": "zero"}), fault.Unavailable, "large")
}

func TestModifyWaitsForTheMark(t *testing.T) {
	var failing atomic.Bool
	r := newRig(t, func(v *v1alpha1.DatastoreVolume) {
		if failing.Load() {
			v.Status.Worker.Failure = &v1alpha1.Failure{Reason: "Unavailable", Message: "the disk is out"}
			return
		}
		ready := v.Status.Worker.Phase == v1alpha1.Ready
		obedient(v)
		if !ready { // the mark is the next work
			v.Status.Worker.Marked = &v1alpha1.Marked{}
		}
	})
	q := ask("v", gib, "datastore", "large")
	q.Mutable = map[string]string{"onDelete": "archive"}
	if v := r.create(t, q); v.Status.Worker.Marked.OnDelete != v1alpha1.ArchiveData {
		t.Errorf("the volume was answered before its mark was whole: %+v", v.Status.Worker.Marked)
	}
	if err := r.Modify(t.Context(), "v", map[string]string{"onDelete": "retain"}); err != nil {
		t.Fatal(err)
	}
	if v, err := r.Get(t.Context(), "v"); err != nil || v.Status.Worker.Marked.OnDelete != v1alpha1.RetainData {
		t.Errorf("it was answered before the mark was written: %+v, %v", v.Status.Worker.Marked, err)
	}
	failing.Store(true)
	want(t, r.Modify(t.Context(), "v", map[string]string{"onDelete": "delete"}), fault.Unavailable, "the disk is out")
	failing.Store(false)
	r.look(t, "v")
	if _, err := store.Wait(t.Context(), r.store.Volumes, "v", func(v *v1alpha1.DatastoreVolume) (bool, error) {
		return v.Status.Worker.Marked.OnDelete == v1alpha1.DeleteData, nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := r.Modify(t.Context(), "v", map[string]string{"onDelete": "delete"}); err != nil {
		t.Errorf("repeated when the disk is back: %v", err)
	}
}

func TestModifyAVolumeThatIsBeingDeleted(t *testing.T) {
	r := newRig(t, func(v *v1alpha1.DatastoreVolume) {
		if v.Spec.Deletion == nil {
			obedient(v)
		}
	})
	r.create(t, ask("v", gib))
	if _, err := store.Change(t.Context(), r.store.Volumes, "v", func(v *v1alpha1.DatastoreVolume) error {
		v.Spec.Deletion = &v1alpha1.Deletion{Policy: v1alpha1.DeleteData}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want(t, r.Modify(t.Context(), "v", map[string]string{"onDelete": "retain"}), fault.Busy, "deleted")
}

func TestADeletedVolumeEndsAsItOrItsDatastoreSays(t *testing.T) {
	var ordered atomic.Pointer[v1alpha1.Deletion]
	r := newRig(t, func(v *v1alpha1.DatastoreVolume) {
		if v.Spec.Deletion != nil {
			ordered.Store(v.Spec.Deletion)
		}
		obedient(v)
	})
	r.has(t, "large", v1alpha1.WipeByZeroes)
	for name, c := range map[string]struct {
		defaults v1alpha1.VolumeDefaults
		set      map[string]string
		want     v1alpha1.Deletion
	}{
		"nobody says anything":             {v1alpha1.VolumeDefaults{}, nil, v1alpha1.Deletion{Policy: v1alpha1.DeleteData}},
		"the datastore says it":            {v1alpha1.VolumeDefaults{OnDelete: v1alpha1.ArchiveData, Wipe: v1alpha1.WipeNone}, nil, v1alpha1.Deletion{Policy: v1alpha1.ArchiveData}},
		"the datastore says how":           {v1alpha1.VolumeDefaults{Wipe: v1alpha1.WipeZero}, nil, v1alpha1.Deletion{Policy: v1alpha1.DeleteData, Wipe: v1alpha1.WipeZero}},
		"the volume says it":               {v1alpha1.VolumeDefaults{OnDelete: v1alpha1.ArchiveData}, map[string]string{"onDelete": "retain"}, v1alpha1.Deletion{Policy: v1alpha1.RetainData}},
		"the volume wants to be deleted":   {v1alpha1.VolumeDefaults{OnDelete: v1alpha1.RetainData}, map[string]string{"onDelete": "delete"}, v1alpha1.Deletion{Policy: v1alpha1.DeleteData}},
		"the volume says how":              {v1alpha1.VolumeDefaults{Wipe: v1alpha1.WipeNone}, map[string]string{"wipe": "zero"}, v1alpha1.Deletion{Policy: v1alpha1.DeleteData, Wipe: v1alpha1.WipeZero}},
		"what is kept is not wiped either": {v1alpha1.VolumeDefaults{Wipe: v1alpha1.WipeZero}, map[string]string{"onDelete": "archive"}, v1alpha1.Deletion{Policy: v1alpha1.ArchiveData}},
	} {
		t.Run(name, func(t *testing.T) {
			r.administer(t, "large", func(d *v1alpha1.DatastoreSpec) { d.Volumes = c.defaults })
			r.create(t, ask("v", gib, "datastore", "large"))
			if err := r.Modify(t.Context(), "v", c.set); err != nil {
				t.Fatal(err)
			}
			if err := r.Delete(t.Context(), "v"); err != nil {
				t.Fatal(err)
			}
			if got := ordered.Load(); got.Policy != c.want.Policy || got.Wipe != c.want.Wipe {
				t.Errorf("ordered was %+v", got)
			}
		})
	}
}

func TestAnEndThatAPoolCantGiveIsNotOrdered(t *testing.T) {
	r := newRig(t, obedient)
	r.create(t, ask("v", gib, "datastore", "large"))
	if s := r.snapshot(t, "s", "v"); s.Spec.Wipe != "" {
		t.Errorf("the snapshot asks for wipe %q", s.Spec.Wipe)
	}
	r.administer(t, "large", func(d *v1alpha1.DatastoreSpec) { d.Volumes.Wipe = v1alpha1.WipeZero })
	want(t, r.Delete(t.Context(), "v"), fault.Precondition, "large", "zero", "spec.volumes.wipe")
	if v, err := r.Get(t.Context(), "v"); err != nil || v.Spec.Deletion != nil {
		t.Errorf("it was ordered all the same: %+v, %v", v.Spec.Deletion, err)
	}
	if err := r.DeleteSnapshot(t.Context(), "s"); err != nil {
		t.Errorf("a snapshot that can't ask for another wipe: %v", err)
	}
	if err := r.Modify(t.Context(), "v", map[string]string{"wipe": "none"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(t.Context(), "v"); err != nil {
		t.Errorf("with a wipe of its own: %v", err)
	}
}

func TestWithoutItsDatastoreNothingIsOrderedForData(t *testing.T) {
	making := func(v *v1alpha1.DatastoreVolume) {
		if v.Name == "v" || v.Spec.Deletion != nil {
			obedient(v)
		}
	}
	r := newRig(t, making)
	r.create(t, ask("v", gib, "datastore", "large"))
	r.snapshot(t, "s", "v")
	if _, err := r.store.Volumes.Create(t.Context(), &v1alpha1.DatastoreVolume{ObjectMeta: named("half"), Spec: v1alpha1.DatastoreVolumeSpec{
		Name: "half", Datastore: "large", Worker: v1alpha1.Worker{Host: node},
	}}); err != nil {
		t.Fatal(err)
	}
	if err := r.store.Datastores.Delete(t.Context(), "large", ""); err != nil {
		t.Fatal(err)
	}
	want(t, r.Delete(t.Context(), "v"), fault.Unavailable, "large", "bring it back")
	want(t, r.DeleteSnapshot(t.Context(), "s"), fault.Unavailable, "large", "bring it back")
	if v, err := r.Get(t.Context(), "v"); err != nil || v.Spec.Deletion != nil {
		t.Errorf("it was ordered: %+v, %v", v.Spec.Deletion, err)
	}
	if err := r.Delete(t.Context(), "half"); err != nil {
		t.Errorf("what was never ready holds no data: %v", err)
	}
}

func TestARepeatFindsItsVolumeThoughItCouldNotBeAskedForToday(t *testing.T) {
	r := newRig(t, obedient)
	v := &v1alpha1.DatastoreVolume{ObjectMeta: named("v"), Spec: v1alpha1.DatastoreVolumeSpec{
		Name: "v", Datastore: "gone", Worker: v1alpha1.Worker{Host: node}, Format: v1alpha1.FormatImage, Size: v1alpha1.Bytes(gib),
		Access:     v1alpha1.VolumeAccess{Type: v1alpha1.Filesystem, Modes: []string{"SINGLE_NODE_WRITER"}},
		Filesystem: &v1alpha1.FilesystemSpec{Type: "zfs"}, Parameters: map[string]string{"datastore": "gone", "colour": "red"},
	}}
	if _, err := r.store.Volumes.Create(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	q := ask("v", gib, "datastore", "gone", "colour", "red")
	q.Filesystem, q.MountFlags = "zfs", []string{"unheard-of"}
	r.create(t, q)
	for name, c := range map[string]struct {
		change func(*controller.CreateRequest)
		kind   fault.Kind
		says   string
	}{
		"another size": {func(q *controller.CreateRequest) { q.Required = 2 * gib }, fault.Invalid, "colour"},
		"other parameters": {func(q *controller.CreateRequest) {
			q.Parameters = map[string]string{"datastore": "gone"}
			q.Filesystem = ""
		}, fault.Exists, "file system"},
		"an unknown mutable parameter":         {func(q *controller.CreateRequest) { q.Parameters = nil; q.Mutable = map[string]string{"iops": "1"} }, fault.Invalid, "iops"},
		"a file system that can't be, as well": {func(q *controller.CreateRequest) { q.Parameters = nil }, fault.Invalid, "zfs"},
	} {
		other := q
		c.change(&other)
		_, err := r.Create(t.Context(), other)
		if !fault.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want(t, err, c.kind, c.says)
	}
}
