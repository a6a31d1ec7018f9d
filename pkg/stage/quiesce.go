package stage

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// freezeLimit is how long a file system is frozen at most, and how long it may take to come to rest.
const freezeLimit = 5 * time.Second

// Quiesce calls take while the volume's file system is at rest, where it is mounted on this host: what was written before
// is on its storage, and its writers wait. It returns take's error.
//
// The file system is frozen for 5 s at most and thawed whatever happens, by Reconcile where the process dies. One that
// somebody else has frozen stays so, unless the process dies in the moment in which it finds that out. What
// take copies is of one instant all the same: a file system that can't be frozen now (another call works on the volume, it
// doesn't come to rest in 5 s, it is none) only has its log replayed when the copy is mounted. take runs in
// any case.
func (s *Stager) Quiesce(ctx context.Context, id string, take func(context.Context) error) error {
	if ctx.Err() != nil {
		return take(ctx) // the process is about to end: whoever thaws would be gone
	}
	f, err := s.freezable(step.WithVolume(ctx, id), id)
	if err != nil {
		logger(ctx).Info("A volume is copied while its file system is at work", "volume", id, "reason", err.Error())
	}
	if f == nil {
		return take(ctx)
	}
	quiet := make(chan error, 1)
	go func() { quiet <- f.freeze() }()
	patience := time.NewTimer(s.config.freezeLimit())
	defer patience.Stop()
	select {
	case err = <-quiet:
		defer f.end()
		if err == nil {
			defer time.AfterFunc(s.config.freezeLimit(), func() { f.thaw() }).Stop()
		}
	case <-patience.C:
		err = fault.New(fault.Unavailable, "it did not come to rest in %v", s.config.freezeLimit())
		f.tooLate.Store(true)
		go func() {
			if err := <-quiet; err != nil {
				logger(ctx).Info("A file system did not come to rest", "volume", id, "reason", err.Error())
			}
			f.end()
		}()
	}
	if err != nil {
		logger(ctx).Info("A volume is copied while its file system is at work", "volume", id, "reason", err.Error())
	}
	return take(ctx)
}

// freezing is a file system that is frozen, or about to be. Its volume is held meanwhile.
type freezing struct {
	stager     *Stager
	ctx        context.Context //nolint:containedctx // thawing outlives the call
	record     *record
	filesystem *mount.Filesystem
	release    func()
	tooLate    atomic.Bool

	mu sync.Mutex
	// frozen by us: what somebody else froze is his to thaw.
	frozen bool
}

// freezable holds a volume whose file system is mounted here for writing, and notes that it is to be frozen. It
// returns nil for others.
func (s *Stager) freezable(ctx context.Context, id string) (*freezing, error) {
	release, err := s.hold(id)
	if err != nil {
		return nil, err
	}
	f, err := s.noteFreeze(context.WithoutCancel(ctx), id)
	if f == nil {
		release()
		return nil, err
	}
	f.release = release
	s.mu.Lock()
	defer s.mu.Unlock()
	s.freezings[f] = true
	f.tooLate.Store(s.closed)
	return f, nil
}

// ThawAll thaws what Quiesce has frozen, and keeps it from freezing anything from then on: it is for a process that
// ends. It waits 5 s at most for a file system that doesn't answer.
func (s *Stager) ThawAll() {
	var all []*freezing
	s.mu.Lock()
	s.closed = true
	for f := range s.freezings {
		f.tooLate.Store(true)
		all = append(all, f)
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, f := range all {
			f.thaw()
		}
	}()
	patience := time.NewTimer(s.config.freezeLimit())
	defer patience.Stop()
	select {
	case <-done:
	case <-patience.C:
	}
}

func (s *Stager) noteFreeze(ctx context.Context, id string) (*freezing, error) {
	r, err := s.records.load(id)
	if err != nil || r == nil || r.Access != v1alpha1.Filesystem || r.Device == "" || r.ReadOnly || r.BootID != s.config.BootID {
		return nil, err
	}
	fs, err := s.mounted(ctx, r)
	if err != nil || fs == nil {
		return nil, err
	}
	r.Frozen = true
	if err := s.records.save(ctx, r); err != nil {
		fs.Close()
		return nil, err
	}
	return &freezing{stager: s, ctx: ctx, record: r, filesystem: fs}, nil
}

// mounted opens the volume's file system where it is mounted, or returns nil.
func (s *Stager) mounted(ctx context.Context, r *record) (*mount.Filesystem, error) {
	for _, path := range append([]string{r.Path}, slices.Sorted(maps.Keys(r.Targets))...) {
		ours := false
		fs, err := s.config.Mounter.OpenFilesystem(path, func(p mount.Point) (err error) {
			if ours, err = s.owns(ctx, r, path, p); err == nil && !ours {
				err = fault.New(fault.NotFound, "the volume is not there")
			}
			return err
		})
		if ours || (err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Precondition)) {
			return fs, err
		}
	}
	return nil, nil
}

// freeze makes the file system durable first, so that its writers wait shortly.
func (f *freezing) freeze() error {
	if err := f.filesystem.Sync(); err != nil || f.tooLate.Load() {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tooLate.Load() { // meanwhile
		return nil
	}
	err := f.filesystem.Freeze(f.ctx)
	f.frozen = err == nil
	return err
}

// thaw thaws what freeze froze, once, and tells whether nothing of that is left to be done.
func (f *freezing) thaw() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.frozen {
		return true
	}
	err := f.filesystem.Thaw(f.ctx)
	f.frozen = err != nil
	if err != nil {
		logger(f.ctx).Error(err, "A file system stays frozen; thaw it (fsfreeze -u)", "volume", f.record.ID, "path", f.record.Path)
	}
	return err == nil
}

// end thaws the file system and lets go of the volume. A stage record that says frozen still has it thawed at the next
// start.
func (f *freezing) end() {
	defer f.release()
	defer f.forget()
	if !f.thaw() {
		return
	}
	f.record.Frozen = false
	if err := f.stager.records.save(f.ctx, f.record); err != nil {
		logger(f.ctx).Error(err, "A stage record still says that the file system is frozen", "volume", f.record.ID)
	}
}

// forget lets go of the file system.
func (f *freezing) forget() {
	f.stager.mu.Lock()
	delete(f.stager.freezings, f)
	f.stager.mu.Unlock()
	f.mu.Lock() // whoever thaws it has ended
	defer f.mu.Unlock()
	f.filesystem.Close()
}

// thaw ends a freeze during which the process died.
func (s *Stager) thaw(ctx context.Context, r *record) error {
	if !r.Frozen {
		return nil
	}
	if r.BootID == s.config.BootID {
		fs, err := s.mounted(ctx, r)
		if err != nil {
			return err
		}
		if fs != nil {
			defer fs.Close()
			if err := fs.Thaw(ctx); err != nil {
				return err
			}
		}
	}
	r.Frozen = false
	return s.records.save(ctx, r)
}
