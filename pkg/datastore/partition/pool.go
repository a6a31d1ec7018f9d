package partition

import (
	"context"
	"sync"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/directory"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

// pool is a partition that the driver mounts.
type pool struct {
	name  string
	tools datastore.Tools
	spec  v1alpha1.PartitionSpec
	// inspect tells that the pool is only looked at.
	inspect bool

	run    *command.Runner
	mounts *mount.Mounter
	// path is where it is mounted.
	path string
	// mounting holds the call that mounts or unmounts.
	mounting chan struct{}

	mu sync.Mutex
	// config is how the pool is opened.
	config datastore.Config
	// mounted is what is mounted, nil while nothing is.
	mounted *mounted
	// inactive is set where the administrator has switched the datastore off.
	inactive bool
}

// mounted is a file system that was mounted, or found mounted.
type mounted struct {
	directory.Pool
	// device is the number of its block device, dev the st_dev of its files; they differ on btrfs.
	device, dev uint64
}

var _ interface {
	datastore.Pool
	InUse(ctx context.Context, v datastore.Volume) (bool, error)
	Examine(ctx context.Context, v datastore.Volume) ([]v1alpha1.Problem, error)
	Update(d *v1alpha1.Datastore)
	Deactivate(ctx context.Context) error
} = (*pool)(nil)

// hold makes the caller the only one that mounts or unmounts.
func (p *pool) hold(ctx context.Context) (release func(), err error) {
	select {
	case p.mounting <- struct{}{}:
		return func() { <-p.mounting }, nil
	case <-ctx.Done():
		return nil, fault.New(fault.Unavailable, "%s is being mounted or unmounted: %w", p.spec.Device, ctx.Err())
	}
}

// now is what is mounted, as far as is known, and whether the datastore is switched off.
func (p *pool) now() (*mounted, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mounted, p.inactive
}

// set keeps what is mounted. A pool that was open is never made anew.
func (p *pool) set(m *mounted) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mounted = m
	if m != nil {
		p.config.PoolUUID = m.UUID()
	}
}

func (p *pool) current() datastore.Config {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.config
}

// use returns the pool on the mounted file system, which it mounts where it is not. One that is switched off and not mounted
// is fault.Unavailable.
func (p *pool) use(ctx context.Context) (directory.Pool, error) {
	m, inactive := p.now()
	if m != nil && (p.inspect || p.inPlace(ctx, m)) {
		return m, nil
	}
	if inactive {
		return nil, off()
	}
	release, err := p.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if m, inactive = p.now(); m != nil && p.inPlace(ctx, m) {
		return m, nil
	}
	if inactive {
		return nil, off()
	}
	m, err = p.activate(ctx)
	p.set(m)
	if err != nil {
		return nil, err
	}
	return m, nil
}

func off() error {
	return fault.New(fault.Unavailable, "it is not mounted, since the datastore's state is Inactive; set spec.state to Active to use it")
}

// inPlace tells whether what was mounted still is, by one look at its root.
func (p *pool) inPlace(ctx context.Context, m *mounted) bool {
	at, err := p.mounts.Inspect(ctx, p.path)
	return err == nil && at.IsMount && (at.Corrupted || at.Dev == m.dev)
}

// with calls something of the pool on the mounted file system.
func with[T any](ctx context.Context, p *pool, call func(directory.Pool) (T, error)) (T, error) {
	in, err := p.use(ctx)
	if err != nil {
		var none T
		return none, fault.Wrap(err, "use datastore", p.name)
	}
	return call(in)
}

// Status measures the file system, and looks after its device.
func (p *pool) Status(ctx context.Context) (datastore.Status, error) {
	s, err := with(ctx, p, func(in directory.Pool) (datastore.Status, error) { return in.Status(ctx) })
	if p.inspect {
		return s, err
	}
	moved := p.moved()
	if err == nil {
		s.Findings = append(s.Findings, moved...)
		return s, nil
	}
	if len(moved) == 0 {
		return s, err
	}
	// What is mounted fails, and its device is gone or has come back as another: mount that.
	if err := p.anew(ctx); err != nil {
		return s, fault.Wrap(err, "measure datastore", p.name)
	}
	return with(ctx, p, func(in directory.Pool) (datastore.Status, error) { return in.Status(ctx) })
}

// List is that of the mounted file system.
func (p *pool) List(ctx context.Context) ([]datastore.Found, error) {
	return with(ctx, p, func(in directory.Pool) ([]datastore.Found, error) { return in.List(ctx) })
}

// Create is that of the mounted file system.
func (p *pool) Create(ctx context.Context, v datastore.Volume, from *datastore.Volume, progress datastore.Progress) (datastore.Made, error) {
	return with(ctx, p, func(in directory.Pool) (datastore.Made, error) { return in.Create(ctx, v, from, progress) })
}

// Snapshot is that of the mounted file system.
func (p *pool) Snapshot(ctx context.Context, of, snap datastore.Volume, progress datastore.Progress) (datastore.Made, error) {
	return with(ctx, p, func(in directory.Pool) (datastore.Made, error) { return in.Snapshot(ctx, of, snap, progress) })
}

// Find is that of the mounted file system.
func (p *pool) Find(ctx context.Context, v datastore.Volume) (datastore.Made, error) {
	return with(ctx, p, func(in directory.Pool) (datastore.Made, error) { return in.Find(ctx, v) })
}

// Expand is that of the mounted file system.
func (p *pool) Expand(ctx context.Context, v datastore.Volume) (datastore.Made, error) {
	return with(ctx, p, func(in directory.Pool) (datastore.Made, error) { return in.Expand(ctx, v) })
}

// Delete is that of the mounted file system.
func (p *pool) Delete(ctx context.Context, v datastore.Volume, d datastore.Disposal) error {
	return p.do(ctx, func(in directory.Pool) error { return in.Delete(ctx, v, d) })
}

// Reclaim is that of the mounted file system.
func (p *pool) Reclaim(ctx context.Context) error {
	return p.do(ctx, func(in directory.Pool) error { return in.Reclaim(ctx) })
}

// Open is that of the mounted file system.
func (p *pool) Open(ctx context.Context, v datastore.Volume, readOnly bool) (datastore.Opened, error) {
	return with(ctx, p, func(in directory.Pool) (datastore.Opened, error) { return in.Open(ctx, v, readOnly) })
}

// Close is that of the mounted file system. Of one that is switched off and not mounted nothing is open.
func (p *pool) Close(ctx context.Context, v datastore.Volume) error {
	if p.dormant(ctx) {
		return nil
	}
	return p.do(ctx, func(in directory.Pool) error { return in.Close(ctx, v) })
}

// InUse is that of the mounted file system. Of one that is switched off and not mounted nothing is in use.
func (p *pool) InUse(ctx context.Context, v datastore.Volume) (bool, error) {
	if p.dormant(ctx) {
		return false, nil
	}
	return with(ctx, p, func(in directory.Pool) (bool, error) { return in.InUse(ctx, v) })
}

// Examine is that of the mounted file system.
func (p *pool) Examine(ctx context.Context, v datastore.Volume) ([]v1alpha1.Problem, error) {
	return with(ctx, p, func(in directory.Pool) ([]v1alpha1.Problem, error) { return in.Examine(ctx, v) })
}

// Update takes up what an administrator changed of a datastore that keeps its place.
func (p *pool) Update(d *v1alpha1.Datastore) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.config.Datastore = d
	p.inactive = d.Spec.State == v1alpha1.StateInactive
	if p.mounted != nil {
		p.mounted.Update(d)
	}
}

func (p *pool) do(ctx context.Context, call func(directory.Pool) error) error {
	_, err := with(ctx, p, func(in directory.Pool) (struct{}, error) { return struct{}{}, call(in) })
	return err
}

// dormant tells whether the datastore is switched off and not mounted.
func (p *pool) dormant(ctx context.Context) bool {
	m, inactive := p.now()
	return inactive && (m == nil || !p.inPlace(ctx, m))
}
