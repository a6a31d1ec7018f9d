package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"os"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

const (
	// tail is the end of a whole disk that its header lies in, in bytes, where no file system of ours is made.
	tail = 1 << 20
	// headerBytes is the size of one of the two copies of a header, which are the last of the disk.
	headerBytes = 4096
	headerMagic = "DatastoreCSIhole"
)

// headerPhase says what is done to a whole disk.
type headerPhase string

const (
	diskMaking headerPhase = "Making" // for a volume whose record names the disk
	diskMade   headerPhase = "Made"   // the volume is whole, and was never opened
	diskWiping headerPhase = "Wiping" // its volume was deleted
	diskClean  headerPhase = "Clean"  // free, and zero but for the header
)

// diskHeader is what a whole disk bears at its end while something is done to it, and when it is clean.
type diskHeader struct {
	Layout    int                 `json:"layout"`
	Serial    uint64              `json:"serial"` // rises with every writing
	Phase     headerPhase         `json:"phase"`
	Pool      string              `json:"pool"`
	Cluster   string              `json:"cluster"`
	Datastore string              `json:"datastore"`
	ID        string              `json:"id,omitempty"`
	UID       string              `json:"uid,omitempty"`
	Bytes     int64               `json:"bytes,omitempty"`
	Source    *origin             `json:"source,omitempty"`
	Clean     bool                `json:"clean,omitempty"`
	Done      int64               `json:"done,omitempty"`
	Noted     time.Time           `json:"noted,omitzero"`
	Order     v1alpha1.WipePolicy `json:"order,omitempty"`
}

// encode returns a copy of a header: magic, length, sum (CRC-32C), JSON.
func (h diskHeader) encode() ([]byte, error) {
	content, err := json.Marshal(h)
	if err != nil || len(content) > headerBytes-len(headerMagic)-8 {
		return nil, fault.New(fault.Internal, "encode the header of a disk (%d bytes): %w", len(content), err)
	}
	b := blockdev.Aligned(headerBytes)
	at := copy(b, headerMagic)
	binary.LittleEndian.PutUint32(b[at:], uint32(len(content)))
	binary.LittleEndian.PutUint32(b[at+4:], crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli)))
	copy(b[at+8:], content)
	return b, nil
}

// parseHeader reads a copy of a header; ok is false where there is none that is whole.
func parseHeader(b []byte) (h diskHeader, ok bool) {
	at := len(headerMagic)
	if len(b) < headerBytes || string(b[:at]) != headerMagic {
		return diskHeader{}, false
	}
	length := binary.LittleEndian.Uint32(b[at:])
	if int64(length) > int64(len(b)-at-8) {
		return diskHeader{}, false
	}
	content := b[at+8:][:length]
	if crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli)) != binary.LittleEndian.Uint32(b[at+4:]) {
		return diskHeader{}, false
	}
	if json.Unmarshal(bytes.Clone(content), &h) != nil || h.Layout != layout {
		return diskHeader{}, false
	}
	return h, true
}

// readHeader returns the header of a disk of that size that is open directly; ok is false where it bears none.
func readHeader(f *os.File, size int64) (h diskHeader, ok bool, err error) {
	b := blockdev.Aligned(2 * headerBytes)
	if _, err := f.ReadAt(b, size-2*headerBytes); err != nil {
		return diskHeader{}, false, fault.New(fault.Unavailable, "can't read the end of %s: %w", f.Name(), err)
	}
	for _, half := range [][]byte{b[:headerBytes], b[headerBytes:]} {
		if one, whole := parseHeader(half); whole && (!ok || one.Serial > h.Serial) {
			h, ok = one, true
		}
	}
	return h, ok, nil
}

// writeHeader writes both copies of a header under the next number, each durably before the next: one of them is always whole.
func writeHeader(ctx context.Context, f *os.File, size int64, h *diskHeader) error {
	h.Serial++
	b, err := h.encode()
	if err != nil {
		return err
	}
	// The copies have their turns, so that the one which counts is overwritten last.
	first := int64(h.Serial % 2)
	for _, half := range []int64{first, 1 - first} {
		err := step.Do(ctx, "write the header of "+f.Name(), func() error {
			if _, err := f.WriteAt(b, size-(2-half)*headerBytes); err != nil {
				return err
			}
			return f.Sync()
		})
		if err != nil {
			return fault.New(fault.Unavailable, "write the header of %s: %w", f.Name(), err)
		}
	}
	return nil
}

// eraseTail zeroes the end of a disk, with its header.
func eraseTail(ctx context.Context, f *os.File, size int64) error {
	return blockdev.ZeroAll(ctx, f, []blockdev.Range{{Start: size - tail, End: size}})
}
