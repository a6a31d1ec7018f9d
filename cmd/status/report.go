// Package status tells what an administrator of a driver without Kubernetes wants to know of it: the running driver
// makes the report and serves it beside its metrics, the command asks for it and prints it.
package status

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// Report is what the driver says of itself. Sizes are bytes.
type Report struct {
	Version   string `json:"version"`
	Host      string `json:"host"`
	ClusterID string `json:"clusterID"`
	// Datastores by name, Copies that are under way, and Abnormal volumes and snapshots.
	Datastores []Datastore `json:"datastores"`
	Copies     []Copy      `json:"copies"`
	Abnormal   []Abnormal  `json:"abnormal"`
}

// Datastore as its pools tell.
type Datastore struct {
	Name        string                 `json:"name"`
	Type        v1alpha1.DatastoreType `json:"type"`
	Health      v1alpha1.Health        `json:"health"`
	Total       int64                  `json:"total"`
	Used        int64                  `json:"used"`
	Available   int64                  `json:"available"`
	Provisioned int64                  `json:"provisioned"`
	Volumes     int32                  `json:"volumes"`
	Findings    []v1alpha1.Finding     `json:"findings,omitempty"`
	Orphans     []v1alpha1.Orphan      `json:"orphans,omitempty"`
}

// Object names a volume or a snapshot.
type Object struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Datastore string `json:"datastore"`
}

// Copy is under way.
type Copy struct {
	Object
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
}

// Abnormal is what has problems on its storage, or whose last work failed.
type Abnormal struct {
	Object
	Problems []v1alpha1.Problem `json:"problems,omitempty"`
	Failure  *v1alpha1.Failure  `json:"failure,omitempty"`
}

// Make makes the report of the records. Pools are the live state of this host's.
func Make(ctx context.Context, s *store.Store, overview []controller.Summary, pools map[string]v1alpha1.PoolStatus) (Report, error) {
	r := Report{Datastores: []Datastore{}, Copies: []Copy{}, Abnormal: []Abnormal{}}
	for _, o := range overview {
		d, err := s.Datastores.Get(ctx, o.Name)
		if err != nil {
			return r, err
		}
		findings := pools[o.Name].Findings
		if held := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionHeld); held != nil {
			findings = append(slices.Clone(findings), v1alpha1.Finding{Reason: v1alpha1.ConditionHeld, Message: held.Message})
		}
		r.Datastores = append(r.Datastores, Datastore{
			Name: o.Name, Type: d.Spec.Type, Health: o.Status.Health, Total: o.Status.Total.Value(), Used: o.Status.Used.Value(),
			Available: o.Status.Available.Value(), Provisioned: o.Status.Provisioned.Value(), Volumes: o.Status.Volumes,
			Findings: findings, Orphans: pools[o.Name].Orphans,
		})
	}
	volumes, err := s.Volumes.List(ctx)
	if err != nil {
		return r, err
	}
	for _, v := range volumes {
		r.add(Object{"volume", v.Name, v.Spec.Datastore}, v.Status.Worker)
	}
	snapshots, err := s.Snapshots.List(ctx)
	for _, v := range snapshots {
		r.add(Object{"snapshot", v.Name, v.Spec.Datastore}, v.Status.Worker)
	}
	return r, err
}

// add takes up what the worker says of a volume or snapshot, where that is more than that all is well.
func (r *Report) add(o Object, w v1alpha1.WorkerStatus) {
	if w.Phase == v1alpha1.Creating && w.Progress != nil {
		r.Copies = append(r.Copies, Copy{o, w.Progress.Done.Value(), w.Progress.Total.Value()})
	}
	if len(w.Problems) > 0 || w.Failure != nil {
		r.Abnormal = append(r.Abnormal, Abnormal{o, w.Problems, w.Failure})
	}
}
