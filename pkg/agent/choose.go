package agent

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
)

// choose has the place of a volume in its record before its pool touches it, where the storage has no room for a mark. Once
// written it stays: a try that died is gone on with there.
func (a *Agent) choose(ctx context.Context, pool datastore.Pool, s *subject) error {
	if s.Snapshot || s.Location != "" {
		return nil
	}
	a.choosing.Lock()
	defer a.choosing.Unlock()
	all, err := a.subjectsOn(ctx, s.on)
	if err != nil {
		return err
	}
	var others []datastore.Volume
	for _, o := range all {
		if o.Location != "" && !o.ended() && o.UID != s.UID {
			others = append(others, o.Volume)
		}
	}
	location, err := datastore.Choose(ctx, pool, s.Volume, s.source, others)
	if err != nil || location == "" {
		return err
	}
	err = a.setStatus(ctx, s, func(w *v1alpha1.WorkerStatus) { w.Location = location })
	if err != nil {
		return err
	}
	s.Location = location
	return nil
}
