package stage

import (
	"cmp"
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
	"github.com/datastore-csi/datastore-csi/pkg/step"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// Config is what a Stager needs.
type Config struct {
	Host, BootID string
	Volumes      store.Table[v1alpha1.DatastoreVolume]
	Set          *datastore.Set
	Mounter      *mount.Mounter
	Command      *command.Runner
	// Dir is the folder of the stage records, on a disk of the host. It is made where it is missing.
	Dir string
	// FreezeLimit is how long Quiesce freezes a file system at most; 0 is 5 s.
	FreezeLimit time.Duration
	// LookLimit is how long a look at a volume's health may take; 0 is 10 s.
	LookLimit time.Duration
	// Hook stands in the context of Reconcile; nil in the shipped binary.
	Hook step.Hook
}

func (c Config) freezeLimit() time.Duration { return cmp.Or(c.FreezeLimit, freezeLimit) }

func (c Config) lookLimit() time.Duration { return cmp.Or(c.LookLimit, lookLimit) }

// Stager stages and publishes volumes on one host. Its methods may be called concurrently; a second call
// about a volume is fault.Busy while the first one runs.
type Stager struct {
	config  Config
	records records

	mu   sync.Mutex
	busy map[string]bool
	// looking are the volumes whose health somebody looks at.
	looking map[string]bool
	// freezings are the file systems that are frozen or about to be; closed tells that none is to be frozen any more.
	freezings map[*freezing]bool
	closed    bool
}

const dirMode = 0o700

// New returns a Stager. Reconcile should be called before it is used.
func New(ctx context.Context, c Config) (*Stager, error) {
	root, err := file.MakeRoot(ctx, c.Dir, dirMode)
	if err != nil {
		return nil, fault.Wrap(err, "open the folder of stage records", c.Dir)
	}
	return &Stager{config: c, records: records{root}, busy: map[string]bool{}, looking: map[string]bool{}, freezings: map[*freezing]bool{}}, nil
}

// Close is ThawAll, and lets go of the folder of stage records. What is staged stays staged.
func (s *Stager) Close() {
	s.ThawAll()
	s.records.root.Close()
}

// hold makes the caller the only one that works on a volume.
func (s *Stager) hold(id string) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[id] {
		return nil, fault.New(fault.Busy, "volume %q: another call works on it on host %q; try again", id, s.config.Host)
	}
	s.busy[id] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.busy, id)
	}, nil
}

// get returns a volume's record, live.
func (s *Stager) get(ctx context.Context, id string) (*v1alpha1.DatastoreVolume, error) {
	v, err := s.config.Volumes.Get(ctx, id)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Invalid) {
		return nil, fault.New(fault.NotFound, "volume %q does not exist", id)
	}
	return v, err
}

// owns tells whether what is mounted at a path is the staged volume's file system.
func (s *Stager) owns(ctx context.Context, r *record, path string, p mount.Point) (bool, error) {
	if !p.IsMount || !r.reached() || r.BootID != s.config.BootID {
		return false, nil
	}
	if r.Dir != "" {
		return r.isTree(p), nil
	}
	if p.Dev == r.Number {
		return true, nil
	}
	if r.Filesystem != string(filesystem.Btrfs) {
		return false, nil
	}
	// btrfs has a device number of its own for every mounted tree.
	mounts, err := s.config.Mounter.OfDevice(ctx, int(unix.Major(r.Number)), int(unix.Minor(r.Number)), r.Device)
	if err != nil {
		return false, err
	}
	for _, m := range mounts {
		if m.MountPoint == path {
			return true, nil
		}
	}
	return false, nil
}

// number returns the device number of a block device.
func number(device string) (uint64, error) {
	major, minor, err := blockdev.Number(device)
	return unix.Mkdev(major, minor), err
}

// open reaches a volume and verifies that it is the one that its record describes.
func (s *Stager) open(ctx context.Context, v *v1alpha1.DatastoreVolume, readOnly bool) (datastore.Opened, error) {
	pool, err := s.config.Set.Pool(ctx, v.Spec.Datastore)
	if err != nil {
		return datastore.Opened{}, fault.As(fault.Unavailable, err)
	}
	opened, err := pool.Open(ctx, datastore.FromRecord(v), readOnly)
	if fault.Is(err, fault.NotFound) {
		return opened, fault.New(fault.DataLoss, "its record says %q on datastore %q, but it is not there: %w", v.Status.Worker.Location, v.Spec.Datastore, err)
	}
	if err != nil {
		return opened, err
	}
	if opened.Identity != v.Status.Worker.Identity {
		return opened, fault.New(fault.Precondition, "%s has identity %q, the volume's is %q; it is left alone",
			cmp.Or(opened.Device, opened.Dir), opened.Identity, v.Status.Worker.Identity)
	}
	return opened, nil
}
