package filesystem

import (
	"context"
	"os"
	"regexp"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// Format says how a file system is made.
type Format struct {
	Type Type
	// UUID is the file system's, in its usual form of 36 characters. It is required.
	UUID string
	// Label is the file system's, of letters, digits and ._:- only; "" is none. ext4 takes 16, xfs 12,
	// btrfs 255 bytes.
	Label string
	// Discard says that the whole device is discarded first. Never set it for storage whose space was
	// promised (a thick image): it would be punched full of holes.
	Discard bool
	// SectorSize is the logical sector size in bytes, 512 or 4096, of the device that the file system
	// will be mounted from, which an image file can't tell. For a block device 0 stands for its own.
	SectorSize int
	// Zeroed says that the storage reads as zeroes from end to end (a fresh file, sparse or allocated; a
	// device that was zeroed), so that nothing needs to be zeroed and an image stays as small as it can.
	// Set without reason it makes a damaged file system. A file that is one hole needs no saying.
	Zeroed bool
	// ProjectQuotas makes an ext4 that can limit directories. It is for kernels with quotas only: others mount it
	// read-only or not at all (see DropProjectQuotas). xfs and btrfs need nothing of the kind.
	ProjectQuotas bool
	// Lazy leaves it to the kernel to zero the inode tables of ext4 once it is mounted, for large disks. Never set it for an image
	// (see Make).
	Lazy bool
	// Options are the user's, as ParseMkfsOptions returned them.
	Options []string
}

// Make makes a file system on a blank image file or block device, and returns when it is on stable
// storage.
//
// Where any signature is found, or the storage doesn't read as zeroes in all the regions that Blank
// reads, it is fault.Precondition and nothing is changed; no tool is told to force. Storage smaller than
// MinSize is fault.OutOfRange, an impossible Format fault.Invalid. Whatever fails after mkfs has begun
// leaves the storage in parts: it must be made blank before the next try.
//
// The features are the same on every machine and none is newer than Linux 5.10: see ext4Settings,
// xfsSettings and btrfsSettings. Space for inode tables and journals is zeroed by mkfs where Zeroed
// doesn't say that it is zero, never later by the kernel, because a loop device turns the kernel's
// zeroing into holes.
func Make(ctx context.Context, run *command.Runner, path string, f Format) error {
	return fault.Wrap(mkfs(ctx, run, path, f), "make "+string(f.Type)+" on", path)
}

func mkfs(ctx context.Context, run *command.Runner, name string, f Format) error {
	options, err := f.validate()
	if err != nil {
		return err
	}
	// One open file from the first look to the last: should the name stand for another device by then,
	// neither the probes nor mkfs ever see that one.
	held, err := command.Await(ctx, run, "open "+name, func(context.Context) (*os.File, error) { return open(name) })
	if err != nil {
		return err
	}
	defer func() { _ = held.Close() }() // opened for reading: nothing can be lost
	path := file.PathForTool(held)
	if f, err = f.fit(ctx, run, path, options); err != nil {
		return err
	}
	sig, what, err := probe(ctx, run, path)
	switch {
	case err != nil:
		return err
	case sig.Type != "":
		return fault.New(fault.Precondition, "it is not blank: it bears %s; nothing was changed", sig)
	case what == hasData:
		return fault.New(fault.Precondition, "it is not blank: it doesn't read as zeroes; nothing was changed")
	}
	f.Zeroed = f.Zeroed || what == isHole
	cmd, err := f.command(ctx, run, path, options)
	if err != nil {
		return err
	}
	cmd.Changes = "make " + string(f.Type) + " on " + name
	if _, err := run.Run(ctx, cmd); err != nil {
		return f.judge(ctx, err)
	}
	if f.Type == Btrfs {
		if err := setBtrfsUUID(ctx, run, path, name, uuid.MustParse(f.UUID)); err != nil {
			return err
		}
	}
	return f.verify(ctx, run, path)
}

// judge tells a user's options that the tool refuses, though each alone is allowed, from a failure of the
// machine. Without options, or where the device failed under it, the tool's error is what it is.
func (f Format) judge(ctx context.Context, err error) error {
	code, exited := command.ExitCode(err)
	if len(f.Options) == 0 || !exited || code == 0 || ctx.Err() != nil {
		return err
	}
	for _, failed := range []unix.Errno{unix.ENOSPC, unix.EIO, unix.EROFS} {
		// The tools write strerror(3) in the C locale; there is no other answer of theirs to tell by.
		if strings.Contains(strings.ToLower(err.Error()), failed.Error()) {
			return err
		}
	}
	return fault.New(fault.Invalid, "the options %q can't be had together with this size: %w", f.Options, err)
}

// validate checks a Format by itself and returns the user's options.
func (f Format) validate() ([]setting, error) {
	if _, err := ParseType(string(f.Type)); err != nil {
		return nil, err
	}
	if u, err := uuid.Parse(f.UUID); err != nil || u == uuid.Nil || u.String() != f.UUID {
		return nil, fault.New(fault.Invalid, "UUID %q is not one of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx in lower case", shorten(f.UUID))
	}
	most := map[Type]int{Ext4: 16, XFS: 12, Btrfs: 255}[f.Type]
	if len(f.Label) > most || !regexp.MustCompile(`^[A-Za-z0-9._:-]*$`).MatchString(f.Label) {
		return nil, fault.New(fault.Invalid, "label %q is not at most %d letters, digits and ._:-", shorten(f.Label), most)
	}
	return parseSettings(f.Type, strings.Join(f.Options, " "))
}

// fit checks a Format against the storage and fills in the sector size.
func (f Format) fit(ctx context.Context, run *command.Runner, path string, options []setting) (Format, error) {
	type geometry struct {
		size   int64
		sector int // 0 for a file
	}
	g, err := command.Await(ctx, run, "read "+path, func(context.Context) (g geometry, err error) {
		st, err := os.Stat(path)
		if err != nil {
			return g, fault.New(fault.Unavailable, "can't be examined: %w", err)
		}
		if st.Mode().IsRegular() {
			return geometry{size: st.Size()}, nil
		}
		if g.size, err = blockdev.Size(path); err != nil {
			return g, err
		}
		g.sector, err = blockdev.LogicalSectorSize(path)
		return g, err
	})
	if err != nil {
		return f, err
	}
	if f.SectorSize == 0 {
		f.SectorSize = g.sector
	}
	switch {
	case f.SectorSize != 512 && f.SectorSize != 4096:
		return f, fault.New(fault.Invalid, "a sector size of %d bytes is neither 512 nor 4096", f.SectorSize)
	case f.SectorSize < g.sector:
		return f, fault.New(fault.Invalid, "a sector size of %d bytes is less than the device's, %d", f.SectorSize, g.sector)
	case g.size < MinSize(f.Type):
		return f, fault.New(fault.OutOfRange, "%d bytes are too small; the least is %d", g.size, MinSize(f.Type))
	}
	blockFlag := map[Type]string{Ext4: "", XFS: "size"}
	if key, ok := blockFlag[f.Type]; ok {
		block, set := byteSize(value(options, "-b", key))
		if set && block < int64(f.SectorSize) {
			return f, fault.New(fault.Invalid, "a block size of %d bytes can't be mounted from a device with sectors of %d", block, f.SectorSize)
		}
	}
	return f, nil
}

// verify reads back what was made and sees to it that it is on stable storage.
func (f Format) verify(ctx context.Context, run *command.Runner, path string) error {
	_, err := command.Await(ctx, run, "read "+path, func(context.Context) (struct{}, error) {
		made, err := open(path)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, closed(made, f.confirm(made))
	})
	return err
}

func (f Format) confirm(made *os.File) error {
	sig, err := ReadSuperblock(made)
	if err != nil {
		return err
	}
	if sig.Type != string(f.Type) || sig.UUID != f.UUID {
		return fault.New(fault.Internal, "mkfs reported success but left %s, wanted %s with UUID %s", sig, f.Type, f.UUID)
	}
	if err := made.Sync(); err != nil {
		return fault.New(fault.Unavailable, "can't be brought to stable storage: %w", err)
	}
	return nil
}
