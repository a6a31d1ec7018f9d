package partition

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

// device is an open block device. As long as it is open no other gets its number.
type device struct {
	*os.File
	// path as the datastore names it, and the one by which tools reach the open device itself.
	path, tool string
	number     uint64
}

// openDevice opens the datastore's device for reading. What is wrong with it is fault.Unavailable.
func (p *pool) openDevice(ctx context.Context) (*device, error) {
	return command.Await(ctx, p.run, "open "+p.spec.Device, func(context.Context) (*device, error) {
		f, err := blockdev.Open(p.spec.Device, blockdev.Mode{})
		if fault.Is(err, fault.NotFound) {
			return nil, fault.New(fault.Unavailable, "device %s is not there; connect it, or correct spec.partition.device", p.spec.Device)
		}
		if err != nil {
			return nil, fault.As(fault.Unavailable, err)
		}
		major, minor, err := blockdev.NumberOf(f)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return &device{File: f, path: p.spec.Device, tool: file.PathForTool(f), number: unix.Mkdev(major, minor)}, nil
	})
}

// close lets go of the device. It was only read.
func (d *device) close() { _ = d.Close() }

// named has an error that speaks of the tools' path speak of the administrator's.
func (d *device) named(err error) error {
	if err == nil || !strings.Contains(err.Error(), d.tool) {
		return err
	}
	return fault.New(fault.KindOf(err), "%s", strings.ReplaceAll(err.Error(), d.tool, d.path))
}

// probe tells what the device bears.
func (p *pool) probe(ctx context.Context, d *device) (filesystem.Signature, error) {
	sig, err := filesystem.Probe(ctx, p.run, d.tool)
	return sig, d.named(err)
}

// nowAt tells which device a path leads to; 0 is none.
func nowAt(path string) uint64 {
	major, minor, err := blockdev.Number(path)
	if err != nil {
		return 0
	}
	return unix.Mkdev(major, minor)
}

// bearerOf finds the device that bears a UUID now, for the administrator: by udev's links (udev(7)), where there is
// a udev.
func bearerOf(uuid string) string {
	link := "/dev/disk/by-uuid/" + uuid
	to, err := filepath.EvalSymlinks(link)
	if err != nil {
		return ""
	}
	return "; " + to + " bears it now (" + link + ")"
}
