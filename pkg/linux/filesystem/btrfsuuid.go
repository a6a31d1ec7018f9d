package filesystem

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"

	"github.com/google/uuid"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Where things stand in a btrfs superblock (struct btrfs_super_block, include/uapi/linux/btrfs_tree.h).
const (
	btrfsFSID         = 32
	btrfsTotalBytes   = 112
	btrfsIncompat     = 188
	btrfsChecksumType = 196
	btrfsMetadataUUID = 571

	btrfsIncompatMetadataUUID = 1 << 10
)

// btrfsCopies are where a superblock and its copies lie, the first being what counts.
func btrfsCopies() []int64 { return []int64{btrfsOffset, 64 * mib, 256 * gib} }

// SetBtrfsUUID gives a btrfs that isn't mounted, on an image file or block device, another UUID, so that it can be
// mounted beside the one that it is a copy of: the kernel takes two of one UUID for one file system. It takes a
// moment, whatever the size, and may be repeated: a crash in the middle leaves a file system that the next call
// brings to its end. What bears no btrfs, or one that is damaged, is fault.Precondition, an impossible UUID
// fault.Invalid. It is on stable storage when it returns. ext4 and xfs need no such thing (xfs: option nouuid).
func SetBtrfsUUID(ctx context.Context, run *command.Runner, path, id string) error {
	u, err := uuid.Parse(id)
	if err != nil || u == uuid.Nil {
		return fault.New(fault.Invalid, "UUID %q is not one", shorten(id))
	}
	return fault.Wrap(setBtrfsUUID(ctx, run, path, path, u), "set the UUID of btrfs on", path)
}

// setBtrfsUUID gives a btrfs that isn't mounted a UUID, as `btrfstune -M` does: only the superblocks
// change, and keep the old UUID for the blocks that bear it (Linux 5.0). Called again it changes nothing.
//
// It is done here because mkfs.btrfs -U and btrfstune look for the same UUID on every block device of the
// machine first: 35,000 system calls beside 1,400 loop devices, and they hang where one of them is dead.
func setBtrfsUUID(ctx context.Context, run *command.Runner, path, name string, u uuid.UUID) error {
	_, err := command.Await(ctx, run, "write "+path, func(ctx context.Context) (struct{}, error) {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return struct{}{}, fault.New(fault.Unavailable, "can't be opened for writing: %w", err)
		}
		err = step.Do(ctx, "set the UUID of btrfs on "+name, func() error { return writeBtrfsUUID(f, u) })
		return struct{}{}, errors.Join(err, f.Close())
	})
	return err
}

// writeBtrfsUUID rewrites all superblocks, the one that counts last.
func writeBtrfsUUID(f *os.File, u uuid.UUID) error {
	first, err := readRegion(f, btrfsOffset, btrfsSize)
	if err != nil {
		return err
	}
	if _, ok := parseBtrfs(first); !ok {
		return fault.New(fault.Precondition, "it bears no btrfs")
	}
	total := binary.LittleEndian.Uint64(first[btrfsTotalBytes:])
	copies := btrfsCopies()
	for i := len(copies) - 1; i >= 0; i-- {
		if uint64(copies[i])+btrfsSize > total {
			continue
		}
		b, err := readRegion(f, copies[i], btrfsSize)
		if err != nil {
			return err
		}
		if err := changeBtrfsUUID(b, u); err != nil {
			return fault.New(fault.KindOf(err), "superblock at offset %d: %w", copies[i], err)
		}
		if _, err := f.WriteAt(b, copies[i]); err != nil {
			return fault.New(fault.Unavailable, "can't write the superblock at offset %d: %w", copies[i], err)
		}
	}
	if err := f.Sync(); err != nil {
		return fault.New(fault.Unavailable, "can't be brought to stable storage: %w", err)
	}
	return nil
}

// changeBtrfsUUID changes a superblock in memory. One that isn't whole, or has a checksum that isn't
// crc32c, is refused.
func changeBtrfsUUID(b []byte, u uuid.UUID) error {
	le := binary.LittleEndian
	if _, ok := parseBtrfs(b); !ok {
		return fault.New(fault.Precondition, "it has no magic number")
	}
	if kind := le.Uint16(b[btrfsChecksumType:]); kind != 0 {
		return fault.New(fault.Precondition, "its checksum is of type %d, not crc32c", kind)
	}
	if le.Uint32(b) != btrfsChecksum(b) {
		return fault.New(fault.Precondition, "its checksum is wrong")
	}
	fsid, incompat := b[btrfsFSID:btrfsFSID+16], le.Uint64(b[btrfsIncompat:])
	if bytes.Equal(fsid, u[:]) {
		return nil
	}
	if incompat&btrfsIncompatMetadataUUID == 0 {
		le.PutUint64(b[btrfsIncompat:], incompat|btrfsIncompatMetadataUUID)
		copy(b[btrfsMetadataUUID:], fsid)
	}
	copy(fsid, u[:])
	clear(b[:32])
	le.PutUint32(b, btrfsChecksum(b))
	return nil
}

// btrfsChecksum is the crc32c of all that stands behind the checksum itself.
func btrfsChecksum(b []byte) uint32 {
	return crc32.Checksum(b[32:btrfsSize], crc32.MakeTable(crc32.Castagnoli))
}
