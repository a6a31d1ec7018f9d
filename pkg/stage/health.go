package stage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// The kinds of adverse conditions (CSI specification, VolumeHealthErrorType).
const (
	degraded     v1alpha1.VolumeHealth = "DEGRADED"
	inaccessible v1alpha1.VolumeHealth = "INACCESSIBLE"
	dataLoss     v1alpha1.VolumeHealth = "DATA_LOSS"
)

// lookLimit is how long a look at a volume may take before it counts as one that doesn't answer.
const lookLimit = 10 * time.Second

// Health tells what is wrong with a volume on this host: nothing where it is well, or isn't used here. staging and target
// are the paths at which it is thought to be, or "". No two problems have one status and reason. It waits for no
// other call about the volume, and no longer than 10 s for a device or file system that doesn't answer.
func (s *Stager) Health(ctx context.Context, id, staging, target string) ([]v1alpha1.Problem, error) {
	v, err := s.get(ctx, id)
	if err != nil {
		return nil, fault.Wrap(err, "look at volume", id)
	}
	r, err := s.records.load(id)
	if err != nil {
		return nil, fault.Wrap(err, "look at volume", id)
	}
	e := examination{stager: s, volume: v, record: r, staging: staging, target: target}
	found, err := s.within(ctx, id, e.examine)
	return distinct(found), fault.Wrap(err, "look at volume", id)
}

// within waits for a look at a volume, which a dead device may never let end: then no second look is begun until the
// first has ended.
func (s *Stager) within(ctx context.Context, id string, look func(context.Context) []v1alpha1.Problem) ([]v1alpha1.Problem, error) {
	silent := []v1alpha1.Problem{{Status: inaccessible, Reason: "NoAnswer", Message: fmt.Sprintf(
		"its storage on host %q has not answered for %v; look at the kernel's log and at the device or server that it lies on", s.config.Host, s.config.lookLimit())}}
	s.mu.Lock()
	if s.looking[id] {
		s.mu.Unlock()
		return silent, nil
	}
	s.looking[id] = true
	s.mu.Unlock()
	seen := make(chan []v1alpha1.Problem, 1)
	ctx, cancel := context.WithTimeout(ctx, s.config.lookLimit())
	go func() {
		found := look(ctx)
		s.mu.Lock()
		delete(s.looking, id)
		s.mu.Unlock()
		seen <- found
	}()
	defer cancel()
	select {
	case found := <-seen:
		return found, nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) { // by the caller
			return nil, ctx.Err()
		}
		return silent, nil
	}
}

// distinct leaves out what has the status and reason of another.
func distinct(all []v1alpha1.Problem) []v1alpha1.Problem {
	var out []v1alpha1.Problem
	for _, p := range all {
		if !slices.ContainsFunc(out, func(o v1alpha1.Problem) bool { return o.Status == p.Status && o.Reason == p.Reason }) {
			out = append(out, p)
		}
	}
	return out
}

// examination is one look at one volume.
type examination struct {
	stager          *Stager
	volume          *v1alpha1.DatastoreVolume
	record          *record
	staging, target string
	found           []v1alpha1.Problem
}

// add notes a problem. The volume, the host and what to do stand in the message.
func (e *examination) add(status v1alpha1.VolumeHealth, reason, message string, args ...any) {
	e.found = append(e.found, v1alpha1.Problem{Status: status, Reason: reason, Message: fmt.Sprintf(message, args...)})
}

func (e *examination) examine(ctx context.Context) []v1alpha1.Problem {
	s := e.stager
	if e.record == nil && (e.staging != "" || e.target != "") {
		var err error
		if e.record, err = s.lost(ctx, e.volume.Name, e.staging, e.target); err != nil {
			e.add(inaccessible, "StageUnknown", "it has no stage record on host %q, and what it is here can't be found out: %v", s.config.Host, err)
		}
	}
	r := e.record
	switch {
	case r == nil || r.BootID != s.config.BootID || !r.reached():
		if e.staging != "" || e.target != "" {
			e.add(inaccessible, "NotStaged", "it is not staged on host %q; its pod's events say why", s.config.Host)
		}
		e.storage(ctx, inaccessible)
		return e.found
	case e.staging != "" && e.staging != r.Path:
		e.add(inaccessible, "StagedElsewhere", "it is staged at %s on host %q, not at %s", r.Path, s.config.Host, e.staging)
	}
	if r.Device != "" {
		e.device()
	} else {
		e.directory(ctx)
	}
	if r.Access == v1alpha1.Filesystem {
		e.staged(ctx)
	}
	if e.target != "" {
		e.published(ctx)
	}
	// What is mounted and answers can be used, whatever is said of its datastore.
	e.storage(ctx, degraded)
	return e.found
}

// storage looks at the volume in its pool, where that is this host's. Where the pool can't be used, that is a problem
// of the given kind.
func (e *examination) storage(ctx context.Context, unusable v1alpha1.VolumeHealth) {
	v, s := e.volume, e.stager
	if v.Spec.Worker.Host != s.config.Host || v.Status.Worker.Phase != v1alpha1.Ready {
		return
	}
	pool, ok := s.config.Set.Statuses()[v.Spec.Datastore]
	if ok && pool.Health == v1alpha1.Unavailable {
		e.add(unusable, "DatastoreUnavailable", "datastore %q is unavailable on host %q: %s", v.Spec.Datastore, s.config.Host, sentences(pool.Findings))
		return
	}
	p, err := s.config.Set.Leave(ctx, v.Spec.Datastore)
	if err != nil {
		e.add(unusable, "DatastoreUnavailable", "%v", err)
		return
	}
	problems, err := datastore.Examine(ctx, p, datastore.FromRecord(v))
	e.found = append(e.found, problems...)
	switch fault.KindOf(err) {
	case fault.NotFound, fault.DataLoss:
		e.add(dataLoss, "StorageGone", "its record says %q on datastore %q, but it is not there; put it back, or restore it from a backup or snapshot: %v",
			v.Status.Worker.Location, v.Spec.Datastore, err)
	case fault.Unavailable:
		e.add(unusable, "DatastoreUnavailable", "%v", err)
	default:
		if err != nil {
			e.add(unusable, "StorageUnclear", "%v", err)
		}
	}
}
