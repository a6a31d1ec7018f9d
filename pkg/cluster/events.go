package cluster

import (
	"context"
	"strings"

	"golang.org/x/sync/errgroup"
	core "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

const (
	// reasonDeleted is the reason of an event about a volume whose record somebody has deleted.
	reasonDeleted = "RecordDeleted"
	deletedText   = "The record was deleted, which deletes no data and can't be taken back: it stays until the volume itself is deleted. " +
		"The volume can't be attached any more. Save its data, then delete the claim, or its PersistentVolume with the reclaim policy Delete"
)

// Events posts what an administrator must know of datastores and volumes: once when it begins, and for datastores when it is over.
// What calls of CSI end with is posted by those that made them.
type Events struct {
	Datastores store.Table[v1alpha1.Datastore]
	Volumes    store.Table[v1alpha1.DatastoreVolume]
	Recorder   record.EventRecorder
}

// NewRecorder returns a recorder whose events go to the API server until ctx ends. Of many that are alike it posts one with a
// count, and of too many about one object only some.
func NewRecorder(ctx context.Context, events client.EventsGetter) record.EventRecorder {
	b := record.NewBroadcaster(record.WithContext(ctx))
	b.StartRecordingToSink(&client.EventSinkImpl{Interface: events.Events("")})
	return b.NewRecorder(runtime.NewScheme(), core.EventSource{Component: v1alpha1.DriverName})
}

// Run posts events until ctx ends.
func (e Events) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		known := map[types.UID]map[string]string{}
		return store.Each(ctx, e.Datastores, "", func(c store.Event[v1alpha1.Datastore]) {
			if c.Record != nil {
				known[c.Record.UID] = e.datastore(c.Record, known[c.Record.UID])
			}
		})
	})
	group.Go(func() error {
		known := map[string]map[string]bool{}
		return store.Each(ctx, e.Volumes, "", func(c store.Event[v1alpha1.DatastoreVolume]) {
			if c.Record == nil {
				delete(known, c.Name)
				return
			}
			known[c.Name] = e.volume(c.Record, known[c.Name])
		})
	})
	return group.Wait()
}

// datastore posts which conditions of a datastore have another reason than before, and returns the reasons. What was well at the
// first look is nothing new.
func (e Events) datastore(d *v1alpha1.Datastore, before map[string]string) map[string]string {
	now := map[string]string{}
	for _, c := range d.Status.Conditions {
		now[c.Type] = c.Reason
		well := c.Type == v1alpha1.ConditionReady && c.Reason == string(v1alpha1.Healthy)
		if before[c.Type] == c.Reason || before[c.Type] == "" && well {
			continue
		}
		kind := core.EventTypeWarning
		if well {
			kind = core.EventTypeNormal
		}
		e.Recorder.Event(referTo(d, "Datastore"), kind, c.Reason, c.Message)
	}
	return now
}

// volume posts which problems a volume has that it had not before, and returns those that it has.
func (e Events) volume(v *v1alpha1.DatastoreVolume, before map[string]bool) map[string]bool {
	now := map[string]bool{}
	tell := func(reason, message string) {
		if now[reason] = true; before[reason] {
			return
		}
		e.Recorder.Event(referTo(v, "DatastoreVolume"), core.EventTypeWarning, reason, message)
		if claim := claimOf(v); claim != nil {
			e.Recorder.Eventf(claim, core.EventTypeWarning, reason, "volume %s: %s", v.Name, message)
		}
	}
	for _, p := range v.Status.Worker.Problems {
		tell(p.Reason, p.Message)
	}
	if v.DeletionTimestamp != nil && v.Spec.Deletion == nil {
		tell(reasonDeleted, deletedText)
	}
	return now
}

func referTo(o metav1.Object, kind string) *core.ObjectReference {
	return &core.ObjectReference{
		APIVersion: v1alpha1.APIVersion, Kind: kind, Name: o.GetName(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(),
	}
}

// claimOf is the claim that a volume was made for; nil where that is not known.
func claimOf(v *v1alpha1.DatastoreVolume) *core.ObjectReference {
	uid, made := strings.CutPrefix(v.Spec.Name, claimPrefix)
	if !made || v.Labels[claimNamespace] == "" || v.Labels[claimName] == "" {
		return nil
	}
	return &core.ObjectReference{
		APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: v.Labels[claimNamespace], Name: v.Labels[claimName], UID: types.UID(uid),
	}
}
