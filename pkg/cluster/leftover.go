package cluster

import (
	"context"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

const (
	leftoverEvery = time.Minute
	// leftoverAge is how old a record must be: whoever asked for its volume has had an answer by then, and made use of it.
	leftoverAge = 3 * time.Minute
	// deletionPatience is how long one deletion may take before the next is begun.
	deletionPatience = time.Minute

	// How the provisioner names a claim's volume, and the labels that its record gets of what it says.
	claimPrefix    = "pvc-"
	claimNamespace = v1alpha1.Group + "/pvc-namespace"
	claimName      = v1alpha1.Group + "/pvc-name"
)

// Leftovers deletes volumes that were made for a claim which was deleted meanwhile, where the provisioner died before it had
// noted the volume anywhere: it has forgotten it (kubernetes-csi/external-provisioner, issue 486).
//
// Nothing of anybody's is in such a volume, and that is not guessed: its record is as it was made (an attachment would have
// changed it), it began blank, and it was not found on storage. And nobody asks for it: its very claim is gone, and no
// PersistentVolume names it.
type Leftovers struct {
	Driver  string
	Volumes store.Table[v1alpha1.DatastoreVolume]
	Claims  client.PersistentVolumeClaimsGetter
	PVs     client.PersistentVolumesGetter
	// Delete ends a volume.
	Delete func(ctx context.Context, id string) error
	Now    func() time.Time
}

// Run looks for them until ctx ends.
func (l Leftovers) Run(ctx context.Context) {
	tick := time.NewTicker(leftoverEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := l.Sweep(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Looking for volumes whose claims are gone failed")
		}
	}
}

// Sweep looks for them once.
func (l Leftovers) Sweep(ctx context.Context) error {
	all, err := l.Volumes.List(ctx)
	if err != nil {
		return err
	}
	var unused []*v1alpha1.DatastoreVolume
	for _, v := range all {
		if l.unused(v) {
			unused = append(unused, v)
		}
	}
	if len(unused) == 0 {
		return nil
	}
	named, err := l.named(ctx)
	if err != nil {
		return err
	}
	for _, v := range unused {
		if named[v.Name] {
			continue
		}
		if err := l.end(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

// unused tells whether a record is of a claim's volume that nobody has ever had.
func (l Leftovers) unused(v *v1alpha1.DatastoreVolume) bool {
	return v.Generation == 1 && len(v.Spec.Attachments) == 0 && len(v.Status.Nodes) == 0 &&
		v.Spec.Source == nil && v.Spec.StorageUID == "" && v.Spec.Deletion == nil && v.DeletionTimestamp == nil &&
		strings.HasPrefix(v.Spec.Name, claimPrefix) && v.Labels[claimNamespace] != "" &&
		l.Now().Sub(v.CreationTimestamp.Time) > leftoverAge
}

// named are the volumes that a PersistentVolume names, whatever it is called itself.
func (l Leftovers) named(ctx context.Context) (map[string]bool, error) {
	list, err := l.PVs.PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, pv := range list.Items {
		if pv.Spec.CSI != nil && pv.Spec.CSI.Driver == l.Driver {
			out[pv.Spec.CSI.VolumeHandle] = true
		}
	}
	return out, nil
}

// end deletes a volume if its claim is gone.
func (l Leftovers) end(ctx context.Context, v *v1alpha1.DatastoreVolume) error {
	namespace := v.Labels[claimNamespace]
	// By its UID: another claim may have the name by now.
	claims, err := l.Claims.PersistentVolumeClaims(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, claim := range claims.Items {
		if claimPrefix+string(claim.UID) == v.Spec.Name {
			return nil
		}
	}
	log := klog.FromContext(ctx).WithValues("volume", v.Name, "namespace", namespace)
	log.Info("Deleting a volume that nobody has used: its claim was deleted while it was being made")
	ctx, cancel := context.WithTimeout(ctx, deletionPatience)
	defer cancel()
	if err := l.Delete(ctx, v.Name); err != nil {
		log.Error(err, "Deleting a volume whose claim is gone failed; it is tried again")
	}
	return nil
}
