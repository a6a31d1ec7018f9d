package datastore

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

const (
	// settle is how long a monitor waits at least after it was woken, so that a burst of changes is measured once.
	settle = 300 * time.Millisecond
	// rest bounds the share of time for which a pool is measured where changes don't end: a monitor that is woken
	// waits so many times as long as the last measurement took.
	rest = 20
)

// monitor opens and measures one pool.
type monitor struct {
	set  *Set
	name string
	stop context.CancelFunc
	// leaving is set, under the set's lock, once the datastore is removed.
	leaving *retirement

	kick  chan struct{}
	anew  chan struct{} // the spec has changed: measured at once
	first chan struct{} // closed after the first measurement

	mu        sync.Mutex
	datastore *v1alpha1.Datastore
	uuid      string
	pool      Pool // nil while it is not open
	openedFor *v1alpha1.Datastore
	volumes   inUse
	measured  Status
	audit     Audit
	status    v1alpha1.PoolStatus // what measured and audit tell
	err       error
	began     time.Time // of the measurement that runs; zero when none does
}

func newMonitor(s *Set, d *v1alpha1.Datastore, uuid string) *monitor {
	return &monitor{
		set: s, name: d.Name, datastore: d, uuid: uuid,
		kick: make(chan struct{}, 1), anew: make(chan struct{}, 1), first: make(chan struct{}),
		status: v1alpha1.PoolStatus{UUID: uuid, Health: v1alpha1.Unavailable, Findings: []v1alpha1.Finding{{
			Reason: "Opening", Message: "it is being opened, since " + s.config.Tools.Now().UTC().Format(time.RFC3339) + "; try again",
		}}},
		volumes: newInUse(),
		err:     fault.New(fault.Unavailable, "it was not measured yet; try again"),
	}
}

func (m *monitor) apply(d *v1alpha1.Datastore) {
	m.mu.Lock()
	m.datastore = d
	m.mu.Unlock()
	select {
	case m.anew <- struct{}{}:
	default:
	}
}

func (m *monitor) wake() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// await waits for the first measurement, no longer than the set's patience.
func (m *monitor) await(ctx context.Context) {
	select {
	case <-m.first:
		return
	default:
	}
	patience := time.NewTimer(m.set.config.Patience)
	defer patience.Stop()
	select {
	case <-m.first:
	case <-patience.C:
	case <-ctx.Done():
	}
}

func (m *monitor) run(ctx context.Context) {
	once := sync.OnceFunc(func() { close(m.first) })
	for {
		began := m.set.config.Tools.Now()
		m.measure(ctx)
		took := m.set.config.Tools.Now().Sub(began)
		once()
		m.set.tell()
		if !m.pause(ctx, max(settle, min(rest*took, m.set.config.Interval))) {
			return
		}
	}
}

// pause waits for the next measurement and tells whether there is one. After it was woken it waits for that long, so
// that a burst of changes is measured once. A changed spec waits for nothing.
func (m *monitor) pause(ctx context.Context, settled time.Duration) bool {
	interval := time.NewTimer(m.set.config.Interval)
	defer interval.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-interval.C:
		return true
	case <-m.anew:
		return true
	case <-m.kick:
	}
	burst := time.NewTimer(settled)
	defer burst.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-burst.C:
		return true
	case <-m.anew:
		return true
	}
}

// measure opens the pool where it is not open for the present spec, and takes its status.
func (m *monitor) measure(ctx context.Context) {
	m.mu.Lock()
	m.began = m.set.config.Tools.Now()
	d, pool, uuid := m.datastore, m.pool, m.uuid
	if !samePlace(m.openedFor, d) {
		pool = nil
	}
	changed := pool != nil && m.openedFor != d
	m.mu.Unlock()
	if changed {
		update(pool, d)
	}

	var status Status
	var err error
	off := inactive(d)
	if pool == nil && (off == nil || uuid != "") {
		// One that is inactive and known is opened too: what is in use there must be let go of. A new one
		// would be marked by its opening.
		pool, err = m.open(ctx, d, uuid)
	}
	if off != nil {
		err = off
		if pool != nil {
			err = leaveBehind(off, deactivate(ctx, pool))
		}
	}
	if err == nil {
		status, err = m.tend(ctx, pool)
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	m.began = time.Time{}
	m.err = err
	m.pool, m.openedFor, m.measured = pool, d, status
	if status.UUID != "" {
		m.uuid = status.UUID
	}
	m.judge()
}

// tend has a pool do its own work, and takes its status. That the work failed is a finding: what exists is served.
func (m *monitor) tend(ctx context.Context, pool Pool) (Status, error) {
	failed := maintain(ctx, pool)
	status, err := pool.Status(ctx)
	if failed != nil {
		status.Findings = append(status.Findings, v1alpha1.Finding{Reason: "MaintenanceFailed", Message: failed.Error()})
	}
	return status, err
}

// judge makes the status anew. The lock is held.
func (m *monitor) judge() {
	m.status = assess(m.openedFor, m.measured, m.err, m.audit)
	m.status.UUID = m.uuid
}

// audited keeps what the last audit found.
func (m *monitor) audited(audit Audit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.audit = audit
	if m.openedFor != nil {
		m.judge()
	}
}

// samePlace tells whether two versions of a datastore are opened in the same way. What else may change in
// a spec is policy, which an open pool is told.
func samePlace(a, b *v1alpha1.Datastore) bool {
	return a != nil && a.Spec.Type == b.Spec.Type && equality.Semantic.DeepEqual(a.Spec.Directory, b.Spec.Directory) &&
		equality.Semantic.DeepEqual(a.Spec.Partition, b.Spec.Partition) && equality.Semantic.DeepEqual(a.Spec.Disk, b.Spec.Disk) &&
		equality.Semantic.DeepEqual(a.Spec.LVM, b.Spec.LVM)
}

// leaveBehind says of a pool that is switched off that something of it is still in use.
func leaveBehind(off, held error) error {
	if held == nil {
		return off
	}
	return fault.New(fault.Unavailable, "%w; until nobody uses it, it stays as it is: %w", off, held)
}

func inactive(d *v1alpha1.Datastore) error {
	if d.Spec.State != v1alpha1.StateInactive {
		return nil
	}
	return fault.New(fault.Unavailable, "its state is Inactive; set spec.state to Active to use it")
}

func (m *monitor) open(ctx context.Context, d *v1alpha1.Datastore, uuid string) (Pool, error) {
	for _, t := range m.set.config.Types {
		if t.Name != d.Spec.Type {
			continue
		}
		pool, err := t.New(ctx, Config{
			Datastore: d, ClusterID: m.set.config.ClusterID, MachineID: m.set.config.MachineID, Host: m.set.config.Host,
			PoolUUID: uuid, Claims: &m.set.claims, Tools: m.set.config.Tools,
		})
		if err != nil {
			return nil, err
		}
		return &exclusive{Pool: pool, inUse: &m.volumes}, nil
	}
	return nil, fault.New(fault.Unavailable, "type %q is not served by this version", d.Spec.Type)
}

// get returns the pool, or why there is none.
func (m *monitor) get() (Pool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := inactive(m.datastore); err != nil { // at once, whatever was measured last
		return nil, err
	}
	if err := m.overdue(); err != nil {
		return nil, err
	}
	if m.err != nil {
		return nil, fault.As(fault.Unavailable, m.err)
	}
	return m.pool, nil
}

// leave returns the pool as long as it is open and answers.
func (m *monitor) leave() (Pool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.overdue(); err != nil {
		return nil, err
	}
	if m.pool == nil {
		return nil, fault.As(fault.Unavailable, m.err)
	}
	return m.pool, nil
}

// overdue is the error of a pool whose measurement hangs. The lock is held.
func (m *monitor) overdue() error {
	if m.began.IsZero() {
		return nil
	}
	took := m.set.config.Tools.Now().Sub(m.began)
	if took < m.set.config.Patience {
		return nil
	}
	return fault.New(fault.Unavailable, "its storage has not answered for %s; look at the kernel's log for what it waits for",
		took.Round(time.Second))
}

func (m *monitor) report() v1alpha1.PoolStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.status
	if err := m.overdue(); err != nil {
		out.Health = v1alpha1.Unavailable
		out.Findings = []v1alpha1.Finding{{Reason: "NoAnswer", Message: err.Error()}}
	}
	return out
}
