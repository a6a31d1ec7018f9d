package lvm

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strconv"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

// The layout of a physical volume's label and metadata area, in bytes (lib/format_text/layout.h and lib/label/label.h of
// LVM2). All numbers are little-endian.
const (
	sector       = 512
	labelSectors = 4 // the label is in one of the first four
	labelMagic   = "LABELONE"
	labelType    = "LVM2 001"
	labelOffset  = 20 // of the physical volume's header, in the label
	labelTypeAt  = 24

	pvAreas     = 40 // behind the UUID of 32 characters and the device's size
	areaLength  = 16 // offset and size
	maxAreas    = 16
	mdaMagic    = " LVM2 x[5A%r0N*>"
	mdaMagicAt  = 4
	mdaSizeAt   = 32
	mdaTextAt   = 40 // offset, size, checksum and flags of the metadata
	mdaSumAt    = 16 // of the checksum, in that
	mdaIgnored  = 1
	seqnoWithin = 4096 // of the beginning of the metadata
)

// Version tells one state of a group's metadata from every other.
type Version struct {
	// Seqno rises with each change. What vgcfgrestore(8) writes may bear a number that was there before.
	Seqno int64
	// Sum is the checksum of the metadata.
	Sum uint32
}

func (v Version) compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Seqno, o.Seqno), cmp.Compare(v.Sum, o.Sum))
}

// Stamp returns the version of a group's metadata, read from its physical volumes: the highest that one of them has.
// It opens each for reading and starts no process. Where none can be read it is fault.Unavailable.
func Stamp(ctx context.Context, run *command.Runner, devices []string) (Version, error) {
	var errs []error
	highest := Version{Seqno: -1}
	for _, d := range devices {
		v, err := command.Await(ctx, run, "read "+d, func(context.Context) (Version, error) { return stampOf(d) })
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if v.compare(highest) > 0 {
			highest = v
		}
	}
	if highest.Seqno < 0 {
		return Version{}, fault.New(fault.Unavailable, "no physical volume tells the state of its volume group: %w", errors.Join(errs...))
	}
	return highest, nil
}

// stampOf reads the version on one physical volume, past the page cache: another host may have written it.
func stampOf(path string) (Version, error) {
	f, err := blockdev.Open(path, blockdev.Mode{Direct: true})
	if err != nil {
		return Version{}, err
	}
	defer f.Close() //nolint:errcheck // it is only read
	n, err := readVersion(func(offset, size int64) ([]byte, error) { return readDirect(f, offset, size) })
	return n, fault.Wrap(err, "read the LVM metadata on", path)
}

// directUnit is what direct reads are aligned to: the largest sector size.
const directUnit = 4096

// readDirect reads a range of any alignment.
func readDirect(f *os.File, offset, size int64) ([]byte, error) {
	from := offset / directUnit * directUnit
	length := (offset + size - from + directUnit - 1) / directUnit * directUnit
	buffer := blockdev.Aligned(int(length))
	if n, err := f.ReadAt(buffer, from); int64(n) < offset+size-from {
		return nil, fault.New(fault.Unavailable, "can't read %d bytes at offset %d: %w", size, offset, err)
	}
	return buffer[offset-from : offset-from+size], nil
}

// readVersion finds the version by way of label, header and metadata area.
func readVersion(read func(offset, size int64) ([]byte, error)) (Version, error) {
	head, err := read(0, labelSectors*sector)
	if err != nil {
		return Version{}, err
	}
	areas, err := metadataAreas(head)
	if err != nil {
		return Version{}, err
	}
	for _, a := range areas {
		header, err := read(a, sector)
		if err != nil {
			return Version{}, err
		}
		at, size, err := textPlace(header)
		if err != nil {
			return Version{}, err
		}
		if size == 0 {
			continue // ignored, or of no group yet
		}
		text, err := read(a+at, min(size, seqnoWithin))
		if err != nil {
			return Version{}, err
		}
		n, err := parseSeqno(text)
		return Version{n, binary.LittleEndian.Uint32(header[mdaTextAt+mdaSumAt:])}, err
	}
	return Version{}, fault.New(fault.NotFound, "it holds no metadata of a volume group")
}

// metadataAreas returns the offsets of the metadata areas.
func metadataAreas(head []byte) ([]int64, error) {
	for i := 0; i+sector <= len(head); i += sector {
		label := head[i : i+sector]
		if string(label[:len(labelMagic)]) != labelMagic || string(label[labelTypeAt:labelTypeAt+len(labelType)]) != labelType {
			continue
		}
		at := int(binary.LittleEndian.Uint32(label[labelOffset:]))
		if at < 0 || at+pvAreas > sector {
			break
		}
		return areasOf(label[at+pvAreas:])
	}
	return nil, fault.New(fault.NotFound, "it bears no label of LVM")
}

// areasOf reads two lists, of data and of metadata areas, each ended by zeroes.
func areasOf(b []byte) ([]int64, error) {
	var out []int64
	for list := 0; list < 2; list++ {
		for n := 0; ; n++ {
			if n == maxAreas || len(b) < areaLength {
				return nil, fault.New(fault.Internal, "the label of LVM has no end")
			}
			offset := binary.LittleEndian.Uint64(b)
			b = b[areaLength:]
			if offset == 0 {
				break
			}
			if list == 1 {
				if offset >= 1<<62 {
					return nil, fault.New(fault.Internal, "the label of LVM names a metadata area at offset %d", offset)
				}
				out = append(out, int64(offset))
			}
		}
	}
	return out, nil
}

// textPlace returns where in its area the metadata lies; size 0 where there is none.
func textPlace(header []byte) (offset, size int64, err error) {
	if len(header) < sector || string(header[mdaMagicAt:mdaMagicAt+len(mdaMagic)]) != mdaMagic {
		return 0, 0, fault.New(fault.Internal, "the header of its metadata area is damaged")
	}
	le := binary.LittleEndian
	o, s, area := le.Uint64(header[mdaTextAt:]), le.Uint64(header[mdaTextAt+8:]), le.Uint64(header[mdaSizeAt:])
	if le.Uint32(header[mdaTextAt+20:])&mdaIgnored != 0 || o == 0 {
		return 0, 0, nil
	}
	if o > area || s > area || area >= 1<<62 {
		return 0, 0, fault.New(fault.Internal, "the header of its metadata area is damaged")
	}
	// What runs over the area's end goes on behind its header. The beginning is enough here.
	return int64(o), min(int64(s), int64(area-o)), nil
}

// parseSeqno finds "seqno = N" in the beginning of the metadata.
func parseSeqno(text []byte) (int64, error) {
	for line := range bytes.Lines(text) {
		value, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("seqno = "))
		if !ok || line[len(line)-1] != '\n' {
			continue
		}
		n, err := strconv.ParseInt(string(value), 10, 64)
		if err == nil && n >= 0 {
			return n, nil
		}
	}
	return 0, fault.New(fault.Internal, "its metadata names no sequence number")
}
