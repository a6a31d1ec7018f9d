package gpt

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Disk is an open disk. A file that is open directly (blockdev.Mode) is one.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	// Sync returns when all that was written is on the medium.
	Sync() error
	Name() string
}

// Write replaces a disk's table, durably and so that a crash at any point leaves the one before or this one. It also mends
// what Read found wrong, and moves the second copy to the end of a disk that has grown (Table.Stretched). The protective MBR
// stays as it is. A table that contradicts itself is fault.Precondition, and nothing is written. One call at a time may
// write to a disk.
func Write(ctx context.Context, disk Disk, t Table) error {
	if err := t.check(); err != nil {
		return fault.Wrap(err, "write the partition table of", disk.Name())
	}
	backup := t.backup()
	if t.LastUsable+t.arraySectors() >= backup {
		return fault.New(fault.Precondition, "write the partition table of %s: sectors up to %d are usable, which leaves no room for its second copy", disk.Name(), t.LastUsable)
	}
	entries := t.entries()
	for _, c := range []struct {
		what                 string
		array, header, other uint64
	}{
		{"second", backup - t.arraySectors(), backup, 1},
		{"first", t.array, 1, backup},
	} {
		header := t.header(entries, c.header, c.other, c.array)
		if err := t.put(ctx, disk, "write the entries of the "+c.what+" partition table", c.array, entries); err != nil {
			return err
		}
		if err := t.put(ctx, disk, "write the header of the "+c.what+" partition table", c.header, header); err != nil {
			return err
		}
		if err := disk.Sync(); err != nil {
			return fault.New(fault.Unavailable, "flush %s: %w", disk.Name(), err)
		}
	}
	return nil
}

// Init writes a table to a disk that has none, with its protective MBR: last, so that the table counts when all of it is
// there.
func Init(ctx context.Context, disk Disk, t Table) error {
	if err := Write(ctx, disk, t); err != nil {
		return err
	}
	if err := t.put(ctx, disk, "write the protective MBR", 0, t.mbr()); err != nil {
		return err
	}
	if err := disk.Sync(); err != nil {
		return fault.New(fault.Unavailable, "flush %s: %w", disk.Name(), err)
	}
	return nil
}

// Stretched returns the table for all of a disk that is larger than its table knows: what was added is usable, the second
// copy moves to the end. changed is false where there is nothing to gain.
func (t Table) Stretched() (_ Table, changed bool) {
	last := t.backup() - t.arraySectors() - 1
	if last <= t.LastUsable {
		return t, false
	}
	t.LastUsable = last
	return t, true
}

func (t Table) put(ctx context.Context, disk Disk, what string, at uint64, b []byte) error {
	err := step.Do(ctx, what+" of "+disk.Name(), func() error {
		_, err := disk.WriteAt(b, int64(at)*int64(t.SectorSize))
		return err
	})
	if err != nil {
		return fault.New(fault.Unavailable, "%s of %s: %w", what, disk.Name(), err)
	}
	return nil
}

// entries are the bytes of all entries, in whole sectors.
func (t Table) entries() []byte {
	b := blockdev.Aligned(int(t.arraySectors()) * t.SectorSize)
	for i, p := range t.Partitions {
		e := b[i*entryBytes:]
		putGUID(e, 0, p.Type)
		putGUID(e, atID, p.ID)
		put64(e, atPartFirst, p.First)
		put64(e, atPartLast, p.Last)
		put64(e, atAttributes, p.Attributes)
		for j, unit := range p.name {
			binary.LittleEndian.PutUint16(e[atName+2*j:], unit)
		}
	}
	return b
}

// header is the sector of a header that lies at a sector, of a table whose other header and entries lie at others.
func (t Table) header(entries []byte, mine, other, array uint64) []byte {
	h := blockdev.Aligned(t.SectorSize)
	copy(h, signature)
	put32(h, atRevision, revision)
	put32(h, atHeaderSize, headerBytes)
	put64(h, atMine, mine)
	put64(h, atOther, other)
	put64(h, atFirst, t.FirstUsable)
	put64(h, atLast, t.LastUsable)
	putGUID(h, atDisk, t.Disk)
	put64(h, atArray, array)
	put32(h, atEntries, uint32(len(t.Partitions)))
	put32(h, atEntrySize, entryBytes)
	put32(h, atArraySum, crc32.ChecksumIEEE(entries[:len(t.Partitions)*entryBytes]))
	put32(h, atHeaderSum, crc32.ChecksumIEEE(h[:headerBytes]))
	return h
}

// mbr is the sector of the protective MBR (section 5.2.3): one record for all of the disk, or as much as it can say.
func (t Table) mbr() []byte {
	b := blockdev.Aligned(t.SectorSize)
	r := b[mbrRecords:]
	copy(r, []byte{0, 0x00, 0x02, 0x00, mbrProtects, 0xff, 0xff, 0xff})
	put32(r, mbrStart, 1)
	put32(r, mbrSize, uint32(min(t.Sectors-1, math.MaxUint32)))
	binary.LittleEndian.PutUint16(b[mbrSum:], mbrMagic)
	return b
}
