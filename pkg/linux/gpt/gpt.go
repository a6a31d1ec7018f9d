// Package gpt reads and writes GUID partition tables (UEFI specification 2.10, section 5.3) and tells the kernel of one
// partition at a time.
//
// # Crash safety
//
// A table stands on the disk twice. Write brings the copy at the end of the disk up to date first, flushes, then the one
// at its beginning, as libfdisk does: firmware and kernel read only the first copy, so it is changed last, when what can
// replace it is durable. Whichever sectors of a Write reached the medium, in whatever order between two flushes, one copy
// is whole: the first, as it was, until the second is whole and new; then the second. Read takes the first copy where it
// is whole, else the second. So a Write that was cut off happened or didn't, and Read says what Write has to mend.
//
// A table counts only behind a protective MBR, as everywhere: what stands at the end of a disk that was partitioned in
// another way since is no table. Init writes that MBR last, and no other function touches it.
//
// # The kernel
//
// A table that is rewritten is read again by no kernel while one of the disk's partitions is mounted. Add, Resize and
// Remove tell it of one partition (BLKPG, block/ioctl.c), which leaves the others alone.
//
// # Why not a library
//
// github.com/diskfs/go-diskfs falls back to the second copy as well. But it writes the protective MBR anew each time,
// takes entries and headers of one size only as its own constants say, has no sizes above 2 TiB in that MBR, keeps no
// name that isn't valid UTF-16, knows no steps between which a process may die, and doesn't talk to the kernel.
package gpt

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/google/uuid"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

const (
	// MiB is what partitions are aligned to, in bytes.
	MiB = 1 << 20
	// MostPartitions is how many partitions of a disk the kernel takes (block/genhd.c: DISK_MAX_PARTS is 256, with the
	// whole disk).
	MostPartitions = 255

	entryBytes = 128
	// defaultEntries are those of a new table, a whole number of sectors of either size.
	defaultEntries = 256
	// mostEntries bounds what is read of a table that somebody else made.
	mostEntries = 1024
	nameUnits   = 36
)

// GUID identifies a disk, a partition, or a type of partition. The zero GUID is none.
type GUID struct{ uuid.UUID }

// ParseGUID reads a GUID in its usual form of 36 characters. Anything else is fault.Invalid.
func ParseGUID(s string) (GUID, error) {
	u, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		return GUID{}, fault.New(fault.Invalid, "%q is no GUID of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", s[:min(len(s), 64)])
	}
	return GUID{u}, nil
}

// MustParse is ParseGUID for constants; it panics.
func MustParse(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

// Derived returns the GUID that a name has within a space (RFC 9562, version 5): the same each time.
func Derived(space uuid.UUID, name string) GUID { return GUID{uuid.NewSHA1(space, []byte(name))} }

// IsZero tells whether it is none.
func (g GUID) IsZero() bool { return g.UUID == uuid.Nil }

// Short is enough of it to tell it from others in a sentence.
func (g GUID) Short() string { return hex.EncodeToString(g.UUID[:4]) }

// swapped exchanges the forms in text and on the disk, where the first three fields are little-endian.
func (g GUID) swapped() GUID {
	slices.Reverse(g.UUID[0:4])
	slices.Reverse(g.UUID[4:6])
	slices.Reverse(g.UUID[6:8])
	return g
}

// Partition is an entry of a table. Places are in sectors of the disk.
type Partition struct {
	Type, ID GUID
	// First and Last are the partition's, both included.
	First, Last uint64
	Attributes  uint64
	name        [nameUnits]uint16
}

// Name returns the partition's name. What isn't valid UTF-16 in it is replaced.
func (p Partition) Name() string {
	units := p.name[:]
	if end := slices.Index(units, 0); end >= 0 {
		units = units[:end]
	}
	return string(utf16.Decode(units))
}

// Named returns the partition with another name, cut to the 36 UTF-16 units that there is room for.
func (p Partition) Named(name string) Partition {
	p.name = [nameUnits]uint16{}
	copy(p.name[:], utf16.Encode([]rune(strings.ToValidUTF8(name, "?"))))
	return p
}

// Used tells whether there is a partition in the entry.
func (p Partition) Used() bool { return !p.Type.IsZero() }

// Table is a partition table. It is a value: a changed copy changes nothing until it is written.
type Table struct {
	Disk GUID
	// SectorSize is in bytes, Sectors is how many the disk has.
	SectorSize int
	Sectors    uint64
	// FirstUsable and LastUsable bound where partitions may lie.
	FirstUsable, LastUsable uint64
	// Partitions are the entries: partition n is Partitions[n-1].
	Partitions []Partition

	array uint64 // where the first copy's entries begin
}

// New returns an empty table for a disk of that size in bytes, with room for 256 entries. A disk that is too small is
// fault.OutOfRange, a sector size that no table has fault.Invalid.
func New(disk GUID, bytes int64, sectorSize int) (Table, error) {
	if sectorSize != 512 && sectorSize != 4096 {
		return Table{}, fault.New(fault.Invalid, "a sector size of %d bytes is neither 512 nor 4096", sectorSize)
	}
	t := Table{
		Disk: disk, SectorSize: sectorSize, Sectors: uint64(max(0, bytes)) / uint64(sectorSize),
		Partitions: make([]Partition, defaultEntries), array: 2,
	}
	t.FirstUsable = t.array + t.arraySectors()
	if t.Sectors < 2*t.FirstUsable+1 {
		return Table{}, fault.New(fault.OutOfRange, "%d bytes are too few for a partition table", bytes)
	}
	t.LastUsable = t.backup() - t.arraySectors() - 1
	return t, nil
}

func (t Table) arraySectors() uint64 {
	return (uint64(len(t.Partitions))*entryBytes + uint64(t.SectorSize) - 1) / uint64(t.SectorSize)
}

// backup is where the second copy's header belongs.
func (t Table) backup() uint64 { return t.Sectors - 1 }

// Clone returns a copy that shares nothing.
func (t Table) Clone() Table {
	t.Partitions = slices.Clone(t.Partitions)
	return t
}

// Equal tells whether two tables say the same.
func (t Table) Equal(o Table) bool {
	return t.Disk == o.Disk && t.SectorSize == o.SectorSize && t.Sectors == o.Sectors && t.array == o.array &&
		t.FirstUsable == o.FirstUsable && t.LastUsable == o.LastUsable && slices.Equal(t.Partitions, o.Partitions)
}

// Span is a range of the disk in bytes.
type Span struct{ Start, Bytes int64 }

// End is the first byte behind it.
func (s Span) End() int64 { return s.Start + s.Bytes }

// Overlaps tells whether two spans have a byte in common.
func (s Span) Overlaps(o Span) bool { return s.Start < o.End() && o.Start < s.End() }

// Span of a partition, in bytes.
func (t Table) Span(p Partition) Span {
	size := int64(t.SectorSize)
	return Span{int64(p.First) * size, int64(p.Last-p.First+1) * size}
}

// Placed returns the partition with a place, which is a whole number of sectors.
func (t Table) Placed(p Partition, s Span) Partition {
	p.First, p.Last = uint64(s.Start)/uint64(t.SectorSize), uint64(s.End())/uint64(t.SectorSize)-1
	return p
}

// Free returns what of the disk is neither in a partition nor taken in another way, cut to whole mebibytes, in order.
func (t Table) Free(taken ...Span) []Span {
	used := slices.Clone(taken)
	for _, p := range t.Partitions {
		if p.Used() {
			used = append(used, t.Span(p))
		}
	}
	slices.SortFunc(used, func(a, b Span) int { return cmp.Compare(a.Start, b.Start) })
	end := int64(t.LastUsable+1) * int64(t.SectorSize)
	used = append(used, Span{Start: end})
	var free []Span
	at := int64(t.FirstUsable) * int64(t.SectorSize)
	for _, u := range used {
		from, to := (at+MiB-1)/MiB*MiB, min(u.Start, end)/MiB*MiB
		if to > from {
			free = append(free, Span{from, to - from})
		}
		at = max(at, u.End())
	}
	return free
}

// Fit returns the place for that many bytes in the smallest of the free spans that holds them: best fit, at its
// beginning. ok is false where none does.
func Fit(free []Span, bytes int64) (place Span, ok bool) {
	for _, f := range free {
		if f.Bytes >= bytes && (!ok || f.Bytes < place.Bytes) {
			place, ok = f, true
		}
	}
	place.Bytes = bytes
	return place, ok
}

// Unused returns the lowest number of a partition that is free in the table and for the kernel. None is fault.Exhausted.
func (t Table) Unused(taken func(number int) bool) (int, error) {
	most := min(len(t.Partitions), MostPartitions)
	for n := 1; n <= most; n++ {
		if !t.Partitions[n-1].Used() && !taken(n) {
			return n, nil
		}
	}
	return 0, fault.New(fault.Exhausted, "all %d partitions are taken that the table and the kernel have", most)
}

// check refuses tables that contradict themselves.
func (t Table) check() error {
	if t.FirstUsable > t.LastUsable || t.LastUsable >= t.Sectors || t.FirstUsable < t.array+t.arraySectors() {
		return fault.New(fault.Precondition, "its usable sectors %d to %d can't be on a disk of %d", t.FirstUsable, t.LastUsable, t.Sectors)
	}
	type place struct {
		number      int
		first, last uint64
	}
	var places []place
	for i, p := range t.Partitions {
		if !p.Used() {
			continue
		}
		if p.First > p.Last || p.First < t.FirstUsable || p.Last > t.LastUsable {
			return fault.New(fault.Precondition, "its partition %d has sectors %d to %d, usable are %d to %d", i+1, p.First, p.Last, t.FirstUsable, t.LastUsable)
		}
		places = append(places, place{i + 1, p.First, p.Last})
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.first, b.first) })
	for i := 1; i < len(places); i++ {
		if places[i].first <= places[i-1].last {
			return fault.New(fault.Precondition, "its partitions %d and %d overlap", places[i-1].number, places[i].number)
		}
	}
	return nil
}

// get and put move numbers between a table's bytes and its fields.
func get32(b []byte, at int) uint32     { return binary.LittleEndian.Uint32(b[at:]) }
func get64(b []byte, at int) uint64     { return binary.LittleEndian.Uint64(b[at:]) }
func put32(b []byte, at int, v uint32)  { binary.LittleEndian.PutUint32(b[at:], v) }
func put64(b []byte, at int, v uint64)  { binary.LittleEndian.PutUint64(b[at:], v) }
func getGUID(b []byte, at int) (g GUID) { copy(g.UUID[:], b[at:]); return g.swapped() }
func putGUID(b []byte, at int, g GUID)  { g = g.swapped(); copy(b[at:], g.UUID[:]) }
