package gpt

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
)

// The fields of a header, by their offsets (table 5.5), and what they hold.
const (
	signature    = "EFI PART"
	revision     = 0x00010000
	headerBytes  = 92
	atRevision   = 8
	atHeaderSize = 12
	atHeaderSum  = 16
	atMine       = 24
	atOther      = 32
	atFirst      = 40
	atLast       = 48
	atDisk       = 56
	atArray      = 72
	atEntries    = 80
	atEntrySize  = 84
	atArraySum   = 88
)

// The fields of an MBR (table 5.1) and of one of its four records (table 5.3).
const (
	mbrBytes    = 512
	mbrRecords  = 446
	mbrRecord   = 16
	mbrType     = 4
	mbrStart    = 8
	mbrSize     = 12
	mbrSum      = 510
	mbrMagic    = 0xaa55
	mbrProtects = 0xee
)

// Flaws say what is wrong with the copies of a table that was read all the same; nil is a copy that is whole and says
// what the table says. Write mends both.
type Flaws struct{ First, Second error }

// Any tells whether there is something to mend.
func (f Flaws) Any() bool { return f.First != nil || f.Second != nil }

// Read reads the partition table of a disk of that size and sector size, both in bytes.
//
// No table at all is fault.NotFound: the disk may hold anything else. A table of which no copy is whole, that contradicts
// itself, or that this package can't write again is fault.Precondition. Where it can't be read, so that nothing is known, it
// is fault.Unavailable.
func Read(disk io.ReaderAt, bytes int64, sectorSize int) (Table, Flaws, error) {
	if sectorSize != 512 && sectorSize != 4096 {
		return Table{}, Flaws{}, fault.New(fault.Precondition, "sectors of %d bytes are neither of 512 nor of 4096", sectorSize)
	}
	r := reader{disk: disk, sector: int64(sectorSize), sectors: uint64(bytes) / uint64(sectorSize)}
	const least = 6 // MBR, two headers, two sectors of entries, one to use
	if r.sectors < least {
		return Table{}, Flaws{}, fault.New(fault.NotFound, "%d bytes are too few for a partition table", bytes)
	}
	protected, err := r.protected()
	if err != nil {
		return Table{}, Flaws{}, err
	}
	first, firstErr := r.copyAt(1)
	if !protected {
		if fault.Is(firstErr, fault.Unavailable) {
			return Table{}, Flaws{}, firstErr
		}
		if fault.Is(firstErr, fault.NotFound) {
			return Table{}, Flaws{}, fault.New(fault.NotFound, "there is no GUID partition table")
		}
		return Table{}, Flaws{}, fault.New(fault.Precondition, "there is a GUID partition table without a protective MBR")
	}
	last := r.sectors - 1
	if firstErr == nil {
		return r.beside(first)
	}
	second, secondErr := r.copyAt(last)
	switch {
	case secondErr == nil:
		return second.Table, Flaws{First: firstErr}, second.check()
	case fault.Is(firstErr, fault.Unavailable) || fault.Is(secondErr, fault.Unavailable):
		return Table{}, Flaws{}, fault.As(fault.Unavailable, errors.Join(firstErr, secondErr))
	}
	return Table{}, Flaws{}, fault.New(fault.Precondition, "neither copy of its GUID partition table is whole: the first: %w; the second: %w", firstErr, secondErr)
}

// beside compares the first copy, which counts, with the second.
func (r reader) beside(first located) (Table, Flaws, error) {
	if err := first.check(); err != nil {
		return Table{}, Flaws{}, err
	}
	return first.Table, Flaws{Second: r.judge(first)}, nil
}

// judge tells what is wrong with the copy beside the first.
func (r reader) judge(first located) error {
	second, err := r.copyAt(first.other)
	switch {
	case err != nil:
		return err
	case first.other != first.backup():
		return fault.New(fault.Precondition, "it is at sector %d, the disk ends at %d", first.other, first.backup())
	case !second.sameAs(first.Table):
		return fault.New(fault.Precondition, "it differs from the first")
	}
	return nil
}

// sameAs compares two copies, each of which knows its own place only.
func (l located) sameAs(t Table) bool {
	o := l.Table
	o.array = t.array
	return o.Equal(t)
}

// located is a copy of a table with where it says that the other one is.
type located struct {
	Table
	other uint64
}

type reader struct {
	disk    io.ReaderAt
	sector  int64
	sectors uint64
}

// read reads sectors.
func (r reader) read(at, count uint64) ([]byte, error) {
	b := blockdev.Aligned(int(int64(count) * r.sector))
	if n, err := r.disk.ReadAt(b, int64(at)*r.sector); n < len(b) {
		return nil, fault.New(fault.Unavailable, "can't read %d sectors at sector %d: %w", count, at, err)
	}
	return b, nil
}

// protected tells whether the disk says in its MBR that it has a GUID partition table.
func (r reader) protected() (bool, error) {
	b, err := r.read(0, 1)
	if err != nil || binary.LittleEndian.Uint16(b[mbrSum:]) != mbrMagic {
		return false, err
	}
	for i := range 4 {
		if b[mbrRecords+i*mbrRecord+mbrType] == mbrProtects {
			return true, nil
		}
	}
	return false, nil
}

// copyAt reads the copy of a table whose header is at a sector. No header is fault.NotFound.
func (r reader) copyAt(at uint64) (located, error) {
	if at == 0 || at >= r.sectors {
		return located{}, fault.New(fault.Precondition, "it would be at sector %d of %d", at, r.sectors)
	}
	h, err := r.read(at, 1)
	if err != nil {
		return located{}, err
	}
	l, err := r.header(h, at)
	if err != nil {
		return located{}, err
	}
	b, err := r.read(l.array, l.arraySectors())
	if err != nil {
		return located{}, err
	}
	b = b[:len(l.Partitions)*entryBytes]
	if crc32.ChecksumIEEE(b) != get32(h, atArraySum) {
		return located{}, fault.New(fault.Precondition, "its entries don't have the sum that its header says")
	}
	for i := range l.Partitions {
		l.Partitions[i] = parsePartition(b[i*entryBytes:])
	}
	if at != 1 {
		l.array = 2 // the second copy doesn't say where the entries of the first belong
	}
	return l, nil
}

// header reads a header, and bounds what it says before anything is done with it.
func (r reader) header(h []byte, at uint64) (located, error) {
	if string(h[:len(signature)]) != signature {
		return located{}, fault.New(fault.NotFound, "there is no header at sector %d", at)
	}
	size := get32(h, atHeaderSize)
	if size < headerBytes || int64(size) > r.sector {
		return located{}, fault.New(fault.Precondition, "its header says that it has %d bytes", size)
	}
	sum := get32(h, atHeaderSum)
	put32(h, atHeaderSum, 0)
	if crc32.ChecksumIEEE(h[:size]) != sum {
		return located{}, fault.New(fault.Precondition, "its header doesn't have the sum that it says")
	}
	entries, entrySize := get32(h, atEntries), get32(h, atEntrySize)
	l := located{other: get64(h, atOther), Table: Table{
		Disk: getGUID(h, atDisk), SectorSize: int(r.sector), Sectors: r.sectors,
		FirstUsable: get64(h, atFirst), LastUsable: get64(h, atLast), array: get64(h, atArray),
	}}
	switch {
	case get64(h, atMine) != at:
		return located{}, fault.New(fault.Precondition, "its header is for sector %d and lies at %d", get64(h, atMine), at)
	case get32(h, atRevision) != revision || size != headerBytes || entrySize != entryBytes:
		return located{}, fault.New(fault.Precondition, "it is of revision %#x, with a header of %d and entries of %d bytes; known are %#x, %d and %d",
			get32(h, atRevision), size, entrySize, revision, headerBytes, entryBytes)
	case entries == 0 || entries > mostEntries:
		return located{}, fault.New(fault.Precondition, "it has %d entries, known are 1 to %d", entries, mostEntries)
	}
	l.Partitions = make([]Partition, entries)
	if n := l.arraySectors(); l.array < 2 || l.array >= r.sectors || n > r.sectors-l.array {
		return located{}, fault.New(fault.Precondition, "its entries are at sector %d of %d", l.array, r.sectors)
	}
	return l, nil
}

// The fields of an entry (table 5.6).
const (
	atID         = 16
	atPartFirst  = 32
	atPartLast   = 40
	atAttributes = 48
	atName       = 56
)

func parsePartition(b []byte) Partition {
	p := Partition{
		Type: getGUID(b, 0), ID: getGUID(b, atID), First: get64(b, atPartFirst), Last: get64(b, atPartLast), Attributes: get64(b, atAttributes),
	}
	for i := range p.name {
		p.name[i] = binary.LittleEndian.Uint16(b[atName+2*i:])
	}
	return p
}
