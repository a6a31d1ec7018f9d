package stage

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Expand makes a staged volume's device and file system as large as its storage, and returns the device's
// size in bytes. A size below required is fault.Precondition: the storage must be expanded first. A path
// at which the volume is not is fault.NotFound.
func (s *Stager) Expand(ctx context.Context, id, path string, required int64) (int64, error) {
	ctx = step.WithVolume(ctx, id)
	release, err := s.hold(id)
	if err != nil {
		return 0, err
	}
	defer release()
	bytes, err := s.expand(ctx, id, path, required)
	return bytes, fault.Wrap(err, "expand volume", id)
}

func (s *Stager) expand(ctx context.Context, id, path string, required int64) (int64, error) {
	v, err := s.get(ctx, id)
	if err != nil {
		return 0, err
	}
	r, err := s.at(ctx, id, path)
	if err != nil {
		return 0, err
	}
	opened, err := s.open(ctx, v, r.ReadOnly && r.Access == v1alpha1.Block)
	if err != nil {
		return 0, err
	}
	if opened.Bytes < required {
		return 0, fault.New(fault.Precondition, "its device has %d bytes, %d are required; expand it on its storage first (ControllerExpandVolume)", opened.Bytes, required)
	}
	if r.Access == v1alpha1.Block || opened.Dir != "" {
		return opened.Bytes, nil
	}
	if r.ReadOnly {
		return 0, fault.New(fault.Precondition, "it is mounted read-only, so its file system cannot grow; stage it for writing")
	}
	return opened.Bytes, s.grow(ctx, r, opened.Bytes)
}

// grow makes a mounted file system as large as its device.
func (s *Stager) grow(ctx context.Context, r *record, bytes int64) error {
	t := filesystem.Type(r.Filesystem)
	if filled, err := s.fills(ctx, r.Device, t, bytes); filled || err != nil {
		return err
	}
	_, _, err := filesystem.Grow(ctx, r.Path, t, bytes)
	return err
}

// fill is grow for a file system that this process may grow while it is mounted, and that is mounted to be written to.
func (s *Stager) fill(ctx context.Context, r *record, bytes int64) error {
	may, err := filesystem.GrowsMounted(filesystem.Type(r.Filesystem))
	if err != nil || !may || r.ReadOnly {
		return err
	}
	return s.grow(ctx, r, bytes)
}

// fills tells whether a mounted ext4 has the size of its device already: the kernel refuses to look without
// CAP_SYS_RESOURCE. The others are asked by their own ioctl. ext4 keeps its superblock where a reader of
// the device finds it, also while it is mounted.
func (s *Stager) fills(ctx context.Context, device string, t filesystem.Type, bytes int64) (bool, error) {
	if t != filesystem.Ext4 {
		return false, nil
	}
	signature, err := filesystem.Probe(ctx, s.config.Command, device)
	return err == nil && !filesystem.NeedsGrow(signature, bytes), err
}

// at returns the stage record of a volume that is staged or published at a path, else fault.NotFound.
func (s *Stager) at(ctx context.Context, id, path string) (*record, error) {
	r, err := s.records.load(id)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, fault.New(fault.NotFound, "it is not staged on host %q", s.config.Host)
	}
	// No volume is ever at a path that none can have.
	if err := mount.CheckPath(path); err != nil {
		return nil, fault.As(fault.NotFound, err)
	}
	if path == r.Path && r.Access == v1alpha1.Block && r.BootID == s.config.BootID && r.Device != "" {
		return r, nil
	}
	p, err := s.config.Mounter.Inspect(ctx, path)
	if err != nil {
		return nil, err
	}
	if p.Corrupted {
		return nil, fault.New(fault.Unavailable, "its file system at %s does not answer", path)
	}
	ours, err := s.ownsTarget(ctx, r, path, p)
	if err == nil && !ours {
		err = fault.New(fault.NotFound, "it is not at %s", path)
	}
	return r, err
}

// Stats returns what a volume uses at a path where it is staged or published. A path at which it is not
// is fault.NotFound. It waits for no other call about the volume.
func (s *Stager) Stats(ctx context.Context, id, path string) (Stats, error) {
	r, err := s.at(ctx, id, path)
	if err != nil {
		return Stats{}, fault.Wrap(err, "measure volume", id)
	}
	if r.Access == v1alpha1.Block {
		bytes, err := blockdev.Size(r.Device)
		return Stats{Block: true, TotalBytes: bytes}, fault.Wrap(err, "measure volume", id)
	}
	u, err := usage(r, path)
	return Stats{
		TotalBytes: u.TotalBytes, UsedBytes: u.UsedBytes, AvailableBytes: u.AvailableBytes,
		TotalInodes: u.TotalInodes, UsedInodes: u.UsedInodes, AvailableInodes: u.FreeInodes,
	}, fault.Wrap(err, "measure volume", id)
}
