package disk

import (
	"context"
	"errors"
	"os"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/linux/gpt"
)

// candidate is what a path of spec.disk.devices led to.
type candidate struct {
	path string
	// err says why the disk can't be used, or that there is none.
	err error
	// blank disks bear nothing by any probe; starting ones a marker of ours and no table yet.
	blank    bool
	starting *marker
	found    *contents
}

// contents are what was read of a disk that bears a table and a marker of ours.
type contents struct {
	instance instance
	path     string
	names    blockdev.Disk
	table    gpt.Table
	flaws    gpt.Flaws
	header   []byte
	marker   marker
	pairs    []pair
	// kept tells that the member is as it was, so that nothing was read.
	kept bool
}

// instance tells a disk from another one that gets its device number later, and from itself before it grew.
type instance struct {
	major, minor uint32
	sequence     uint64
	bytes        int64
}

func instanceOf(f *os.File) (i instance, err error) {
	if i.major, i.minor, err = blockdev.NumberOf(f); err != nil {
		return instance{}, err
	}
	if i.sequence, err = blockdev.Sequence(f); err != nil {
		return instance{}, err
	}
	i.bytes, err = blockdev.SizeOf(f)
	return i, err
}

// look finds out what a path leads to. It changes nothing.
func (p *pool) look(ctx context.Context, path string) candidate {
	c, err := command.Await(ctx, p.tools.Command, "look at disk "+path, func(ctx context.Context) (candidate, error) {
		return p.examine(ctx, path)
	})
	c.path, c.err = path, fault.Wrap(err, "look at disk", path)
	return c
}

func (p *pool) examine(ctx context.Context, path string) (candidate, error) {
	f, err := blockdev.Open(path, blockdev.Mode{Direct: true})
	if fault.Is(err, fault.NotFound) {
		return candidate{}, fault.New(fault.Unavailable, "it isn't there; is it pulled, or is its name another one?")
	}
	if err != nil {
		return candidate{}, err
	}
	defer func() { _ = f.Close() }() // only read
	if part, err := blockdev.IsPartition(f); err != nil || part {
		return candidate{}, errors.Join(err, fault.New(fault.Precondition, "it is a partition; type disk takes whole disks, type partition takes those"))
	}
	size, sector, err := geometry(f)
	if err != nil {
		return candidate{}, err
	}
	table, flaws, err := gpt.Read(f, size, sector)
	switch {
	case fault.Is(err, fault.NotFound), fault.Is(err, fault.Precondition):
		return p.untabled(ctx, f, size, err)
	case err != nil:
		return candidate{}, err
	case !isOurs(table):
		return candidate{}, fault.New(fault.Precondition, "it bears a partition table that isn't ours, with %d partitions; it is left alone", used(table))
	}
	found := contents{path: path, table: table, flaws: flaws}
	return candidate{found: &found}, found.read(f)
}

func geometry(f *os.File) (size int64, sector int, err error) {
	if size, err = blockdev.SizeOf(f); err != nil {
		return 0, 0, err
	}
	sector, err = blockdev.SectorSizeOf(f)
	return size, sector, err
}

// isOurs tells whether a table has our metadata partition in its place.
func isOurs(t gpt.Table) bool {
	first := t.Partitions[0]
	return first.Type == metadataType() && t.Span(first) == gpt.Span{Start: metaStart, Bytes: metaBytes}
}

func used(t gpt.Table) (n int) {
	for _, p := range t.Partitions {
		if p.Used() {
			n++
		}
	}
	return n
}

// untabled judges a disk without a table that can be read: one that was being taken, a blank one, or somebody's.
func (p *pool) untabled(ctx context.Context, f *os.File, size int64, why error) (candidate, error) {
	if size >= metaStart+metaBytes {
		b := blockdev.Aligned(slotBytes)
		if _, err := f.ReadAt(b, offset(0, 0)); err != nil {
			return candidate{}, fault.New(fault.Unavailable, "can't be read at %d bytes: %w", offset(0, 0), err)
		}
		var disk gpt.GUID
		copy(disk.UUID[:], b[atGUID:atGUID+guidBytes])
		if s, state := parseSlot(b, 0, disk); state == whole {
			m, err := parseMarker(s.content)
			if err == nil && !m.Starting {
				err = fault.New(fault.Precondition, "it bears the marker of pool %s and no partition table that can be used: %w; restore the table "+
					"(a partition's place stands in the metadata), nothing was changed", shorten(m.Pool), why)
			}
			return candidate{starting: &m}, err
		}
	}
	if !fault.Is(why, fault.NotFound) {
		return candidate{}, why
	}
	if err := blank(ctx, p.tools.Command, f); err != nil {
		return candidate{}, err
	}
	return candidate{blank: true}, nil
}

// blank is an error unless a disk is blank by every probe: no partition that the kernel has, nobody who holds it, no
// signature of any kind, and zeroes wherever one could be. What can't be read is not blank.
func blank(ctx context.Context, run *command.Runner, f *os.File) error {
	path := file.PathForTool(f)
	devices, err := gpt.Devices(f)
	if err != nil {
		return err
	}
	if len(devices) > 0 {
		return fault.New(fault.Precondition, "it isn't blank: the kernel has %d partitions of it; it is left alone", len(devices))
	}
	sig, err := filesystem.Probe(ctx, run, path)
	if err != nil {
		return err
	}
	if sig.Type != "" {
		return fault.New(fault.Precondition, "it isn't blank: it bears %s; it is left alone", sig)
	}
	zero, err := filesystem.Blank(ctx, run, path)
	if err != nil {
		return err
	}
	if !zero {
		return fault.New(fault.Precondition, "it isn't blank: it doesn't read as zeroes, though nothing on it is known; it is left alone. "+
			"If nobody needs what is there, zero it (blkdiscard --zeroout)")
	}
	return nil
}

// read reads all that this package keeps on a disk.
func (c *contents) read(f *os.File) (err error) {
	if c.instance, err = instanceOf(f); err != nil {
		return err
	}
	if c.names, err = blockdev.Identify(c.path); err != nil {
		return err
	}
	if c.header, err = header(f, c.table.SectorSize); err != nil && c.flaws.First == nil {
		return err
	}
	c.pairs = make([]pair, slots)
	const atOnce = 1 << 20
	b := blockdev.Aligned(atOnce)
	for half := range 2 {
		for first := 0; first < slots; first += atOnce / slotBytes {
			if _, err := f.ReadAt(b, offset(half, first)); err != nil {
				c.readSingly(f, half, first, atOnce/slotBytes)
				continue
			}
			for i := range atOnce / slotBytes {
				pair := &c.pairs[first+i]
				pair.halves[half], pair.state[half] = parseSlot(b[i*slotBytes:(i+1)*slotBytes], first+i, c.table.Disk)
			}
		}
	}
	s, ok := c.pairs[0].latest()
	if !ok || s.serial == 0 {
		return fault.New(fault.Precondition, "it bears our partition table, and no marker that can be read; nothing was changed")
	}
	c.marker, err = parseMarker(s.content)
	return err
}

// readSingly reads slots one by one, of which some can't be read.
func (c *contents) readSingly(f *os.File, half, first, count int) {
	b := blockdev.Aligned(slotBytes)
	for n := first; n < first+count; n++ {
		pair := &c.pairs[n]
		if _, err := f.ReadAt(b, offset(half, n)); err != nil {
			pair.state[half] = broken
			continue
		}
		pair.halves[half], pair.state[half] = parseSlot(b, n, c.table.Disk)
	}
}

// header reads the sector of the table's first header, which changes with every change of the table.
func header(f *os.File, sector int) ([]byte, error) {
	b := blockdev.Aligned(sector)
	if _, err := f.ReadAt(b, int64(sector)); err != nil {
		return nil, fault.New(fault.Unavailable, "can't read the partition table of %s: %w", f.Name(), err)
	}
	return b, nil
}

// cloneOf tells whether of two disks that bear the same the other one is the original, by what the marker says.
func (c *contents) cloneOf(other *contents) bool {
	same := func(c *contents) bool {
		return c.marker.WWID != "" && c.names.WWID == c.marker.WWID || c.marker.Serial != "" && c.names.Serial == c.marker.Serial
	}
	return !same(c) && same(other)
}
