package stage

import (
	"context"
	"sync"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Reconcile compares the stage records with the machine, as it must be done when the process starts: what
// is whole stays; what a crash or a reboot left half done, or what nobody wants any more, is undone. Volumes
// are looked at side by side, so that a datastore which hangs delays no other. Until ctx ends; what is not
// done by then goes on, and holds its volume meanwhile. An error is about the folder of records as a whole;
// a volume that could not be undone keeps its stage record and is logged.
func (s *Stager) Reconcile(ctx context.Context) error {
	reconcile, err := s.Claim(ctx)
	if err != nil {
		return err
	}
	return reconcile(ctx)
}

// Claim is the first half of Reconcile: it holds the volumes that have a stage record, and returns the second
// half, which must be called. It is for a process in which others come to work on volumes (the agent, which
// quiesces what it copies) before pools are open and volumes can be looked at: they are told to try again.
func (s *Stager) Claim(ctx context.Context) (reconcile func(context.Context) error, err error) {
	ids, err := s.records.ids(step.WithHook(context.WithoutCancel(ctx), s.config.Hook))
	if err != nil {
		return nil, err
	}
	held := make(map[string]func(), len(ids))
	for _, id := range ids {
		if held[id], err = s.hold(id); err != nil {
			for _, release := range held {
				if release != nil {
					release()
				}
			}
			return nil, err
		}
	}
	return func(ctx context.Context) error { return s.reconcileAll(ctx, held) }, nil
}

// reconcileAll looks at all volumes that are held, and lets go of them.
func (s *Stager) reconcileAll(ctx context.Context, held map[string]func()) error {
	work := step.WithHook(context.WithoutCancel(ctx), s.config.Hook)
	var running sync.WaitGroup
	for id, release := range held {
		running.Go(func() {
			defer release()
			if err := s.reconcile(step.WithVolume(work, id), id); err != nil {
				logger(work).Error(err, "A volume is left as it was found", "volume", id)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	return s.retractOthers(work, held)
}

// reconcile judges one stage record.
func (s *Stager) reconcile(ctx context.Context, id string) error {
	r, err := s.records.load(id)
	if err != nil || r == nil {
		return err
	}
	if err := s.thaw(ctx, r); err != nil {
		return err
	}
	published, err := s.published(ctx, r)
	if err != nil {
		return err
	}
	if len(published) > 0 {
		// Somebody uses it: it is taken from nobody.
		return nil
	}
	keep, err := s.whole(ctx, r)
	if err != nil || keep {
		return err
	}
	logger(ctx).Info("Unstaging a volume that was left half staged or that is no longer wanted", "volume", id, "path", r.Path)
	return s.undo(ctx, r)
}

// whole tells whether a volume is staged completely in this boot and still attached to this host.
func (s *Stager) whole(ctx context.Context, r *record) (bool, error) {
	if r.BootID != s.config.BootID || !r.reached() {
		return false, nil
	}
	v, err := s.config.Volumes.Get(ctx, r.ID)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if a, ok := v.Spec.Attachments[s.config.Host]; !ok || a.Generation != r.Generation || datastore.FromRecord(v).UID != r.UID {
		return false, nil
	}
	if r.Access == v1alpha1.Block {
		return true, nil
	}
	p, err := s.config.Mounter.Inspect(ctx, r.Path)
	if err != nil {
		return false, err
	}
	return s.owns(ctx, r, r.Path, p)
}

// retractOthers takes back what was said of volumes that have no stage record: the process died between
// saying so and the first act. One that is in use all the same is of a driver that lost its state.
func (s *Stager) retractOthers(ctx context.Context, recorded map[string]func()) error {
	volumes, err := s.config.Volumes.List(ctx)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if _, ok := v.Status.Nodes[s.config.Host]; !ok || recorded[v.Name] != nil {
			continue
		}
		used, err := s.usedUnrecorded(ctx, v)
		if err != nil || used {
			// What may be in use is not said to be free: its unstaging will tell.
			logger(ctx).Info("A volume without stage record is taken for one in use", "volume", v.Name, "used", used, "err", err)
			continue
		}
		if err := s.retract(step.WithVolume(ctx, v.Name), &record{ID: v.Name, UID: datastore.FromRecord(v).UID}); err != nil {
			return err
		}
	}
	return nil
}
