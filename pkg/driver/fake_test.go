package driver

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// fake is a Controller that keeps what it was asked and answers with what the test gave it.
type fake struct {
	Controller
	created  controller.CreateRequest
	modified map[string]string
	asked    controller.SnapshotRequest
	filter   controller.SnapshotFilter
	token    string
	max      int
	deleted  string
	volume   *v1alpha1.DatastoreVolume
	snapshot *v1alpha1.DatastoreSnapshot
	problems []v1alpha1.Problem
	next     string
	expanded controller.Expanded
	refuses  error // of CanBecome
	fails    error // of everything else
}

func (f *fake) Create(_ context.Context, q controller.CreateRequest) (*v1alpha1.DatastoreVolume, error) {
	f.created = q
	return f.volume, f.fails
}

func (f *fake) Get(_ context.Context, id string) (*v1alpha1.DatastoreVolume, error) {
	if err := controller.CheckID(id); err != nil {
		return nil, err
	}
	if f.volume == nil || f.volume.Name != id {
		return nil, fault.New(fault.NotFound, "volume %q does not exist", id)
	}
	return f.volume, f.fails
}

func (f *fake) GetReady(ctx context.Context, id string) (*v1alpha1.DatastoreVolume, error) {
	return f.Get(ctx, id)
}

func (f *fake) List(_ context.Context, token string, max int) (controller.Page[*v1alpha1.DatastoreVolume], error) {
	f.token, f.max = token, max
	return controller.Page[*v1alpha1.DatastoreVolume]{Entries: []*v1alpha1.DatastoreVolume{f.volume}, Next: f.next}, f.fails
}

func (f *fake) Expand(context.Context, string, controller.Range) (controller.Expanded, error) {
	return f.expanded, f.fails
}

func (f *fake) Modify(_ context.Context, _ string, parameters map[string]string) error {
	f.modified = parameters
	return f.fails
}

func (f *fake) CanBecome(context.Context, *v1alpha1.DatastoreVolume, map[string]string) error {
	return f.refuses
}

func (f *fake) Health(_ context.Context, id string) (controller.Health, error) {
	return controller.Health{ID: id, Problems: f.problems}, f.fails
}

func (f *fake) ListHealth(_ context.Context, token string, max int) (controller.Page[controller.Health], error) {
	f.token, f.max = token, max
	return controller.Page[controller.Health]{Entries: []controller.Health{{ID: "v", Problems: f.problems}}, Next: f.next}, f.fails
}

func (f *fake) CreateSnapshot(_ context.Context, q controller.SnapshotRequest) (*v1alpha1.DatastoreSnapshot, error) {
	f.asked = q
	return f.snapshot, f.fails
}

func (f *fake) DeleteSnapshot(_ context.Context, id string) error {
	f.deleted = id
	return f.fails
}

func (f *fake) Snapshot(context.Context, string) (*v1alpha1.DatastoreSnapshot, error) {
	return f.snapshot, f.fails
}

func (f *fake) ListSnapshots(_ context.Context, filter controller.SnapshotFilter, token string, max int) (controller.Page[*v1alpha1.DatastoreSnapshot], error) {
	f.filter, f.token, f.max = filter, token, max
	return controller.Page[*v1alpha1.DatastoreSnapshot]{Entries: []*v1alpha1.DatastoreSnapshot{f.snapshot}, Next: f.next}, f.fails
}

// served is a controller service over a fake.
func served(f *fake) *controllerServer {
	return &controllerServer{driver: &Driver{config: Config{Controller: f}}, inFlight: newInFlight()}
}
