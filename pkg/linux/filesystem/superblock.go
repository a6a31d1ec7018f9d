package filesystem

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/bits"
	"strings"
	"unicode"

	"github.com/google/uuid"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Signature is what storage says about its content. Its texts come from the storage and are as
// trustworthy as that.
type Signature struct {
	// Type is "ext4", "xfs", "btrfs" or the name that blkid has for anything else; "" is none.
	Type string
	// UUID and Label are the file system's, where it has them.
	UUID  string
	Label string
	// Bytes is the size that the file system has by its own superblock; 0 where that isn't known.
	Bytes int64
}

// ReadSuperblock looks for ext4 (or its elders), xfs and btrfs at their places. Type is "" where none
// is there. A failed read is an error and so is an empty device; two file systems at once are
// fault.Precondition.
func ReadSuperblock(r io.ReaderAt) (Signature, error) {
	var found []Signature
	for _, f := range []struct {
		offset int64
		size   int
		parse  func([]byte) (Signature, bool)
	}{
		{0, xfsSize, parseXFS},
		{extOffset, extSize, func(b []byte) (Signature, bool) { s, ok := parseExt(b); return s.signature(), ok }},
		{btrfsOffset, btrfsSize, parseBtrfs},
	} {
		b, err := readRegion(r, f.offset, f.size)
		if err != nil {
			return Signature{}, err
		}
		if sig, ok := f.parse(b); ok {
			found = append(found, sig)
		}
	}
	switch len(found) {
	case 0:
		return Signature{}, nil
	case 1:
		return found[0], nil
	}
	return Signature{}, fault.New(fault.Precondition, "it bears the superblocks of %s and %s at once; remove the stale one with wipefs(8)",
		found[0].Type, found[1].Type)
}

// readRegion reads a region. One that the end of the device cuts off is nil: nothing can be there.
func readRegion(r io.ReaderAt, offset int64, size int) ([]byte, error) {
	b := make([]byte, size)
	n, err := r.ReadAt(b, offset)
	switch {
	case n == size:
		return b, nil
	case err == nil || errors.Is(err, io.EOF):
		if offset == 0 && n == 0 {
			return nil, fault.New(fault.Unavailable, "not a single byte can be read from it: it is empty or not connected")
		}
		return nil, nil
	}
	return nil, fault.New(fault.Unavailable, "can't read %d bytes at offset %d: %w", size, offset, err)
}

// xfs: Documentation/filesystems/xfs/xfs_filesystem_structure, struct xfs_dsb; numbers are big-endian.
const xfsSize = 512

func parseXFS(b []byte) (Signature, bool) {
	if !bytes.HasPrefix(b, []byte("XFSB")) {
		return Signature{}, false
	}
	return Signature{
		Type:  string(XFS),
		UUID:  formatUUID(b[32:48]),
		Label: text(b[108:120]),
		Bytes: product(binary.BigEndian.Uint64(b[8:]), uint64(binary.BigEndian.Uint32(b[4:]))),
	}, true
}

// btrfs: fs/btrfs, struct btrfs_super_block; numbers are little-endian.
const (
	btrfsOffset = 64 << 10
	btrfsSize   = 4096
)

func parseBtrfs(b []byte) (Signature, bool) {
	if len(b) < btrfsSize || string(b[64:72]) != "_BHRfS_M" {
		return Signature{}, false
	}
	return Signature{
		Type:  string(Btrfs),
		UUID:  formatUUID(b[32:48]),
		Label: text(b[299:555]),
		Bytes: product(binary.LittleEndian.Uint64(b[112:]), 1),
	}, true
}

// ext4: Documentation/filesystems/ext4/super.rst; numbers are little-endian.
const (
	extOffset = 1024
	extSize   = 1024

	extStateValid  = 0x1 // unmounted cleanly
	extStateErrors = 0x2 // the kernel found damage

	extCompatJournal = 0x4

	extIncompatRecover    = 0x4 // the journal holds what isn't in place yet
	extIncompatJournalDev = 0x8
	extIncompat64Bit      = 0x80

	extROCompatQuota         = 0x100
	extROCompatMetadataCsum  = 0x400
	extROCompatProject       = 0x2000
	extROCompatOrphanPresent = 0x10000

	// What ext3 knows: anything more makes an ext4.
	ext3Incompat = 0x2 | extIncompatRecover | 0x10 // filetype, recover, meta_bg
	ext3ROCompat = 0x1 | 0x2 | 0x4                 // sparse_super, large_file, btree_dir
)

// extSuperblock is what is read from the superblock of an ext file system.
type extSuperblock struct {
	compat, incompat, roCompat uint32
	state                      uint16
	lastOrphan, errorCount     uint32
	blockSize                  int64
	blocks                     uint64
	uuid, label                string
	checksumOK                 bool
}

func parseExt(b []byte) (extSuperblock, bool) {
	le := binary.LittleEndian
	if len(b) < extSize || le.Uint16(b[0x38:]) != 0xEF53 {
		return extSuperblock{}, false
	}
	s := extSuperblock{
		compat: le.Uint32(b[0x5C:]), incompat: le.Uint32(b[0x60:]), roCompat: le.Uint32(b[0x64:]),
		state: le.Uint16(b[0x3A:]), lastOrphan: le.Uint32(b[0xE8:]), errorCount: le.Uint32(b[0x194:]),
		blocks: uint64(le.Uint32(b[0x4:])), uuid: formatUUID(b[0x68:0x78]), label: text(b[0x78:0x88]),
		checksumOK: true,
	}
	if shift := le.Uint32(b[0x18:]); shift <= 6 { // 64 KiB, the largest block there is
		s.blockSize = 1024 << shift
	}
	if s.incompat&extIncompat64Bit != 0 {
		s.blocks |= uint64(le.Uint32(b[0x150:])) << 32
	}
	if s.roCompat&extROCompatMetadataCsum != 0 {
		// The kernel's crc32c starts with all ones, as Go's does, but isn't inverted at the end.
		s.checksumOK = le.Uint32(b[0x3FC:]) == ^crc32.Checksum(b[:0x3FC], crc32.MakeTable(crc32.Castagnoli))
	}
	return s, true
}

// signature names the file system as blkid does.
func (s extSuperblock) signature() Signature {
	sig := Signature{Type: "ext2", UUID: s.uuid, Label: s.label, Bytes: product(s.blocks, uint64(s.blockSize))}
	switch {
	case s.incompat&extIncompatJournalDev != 0:
		sig.Type, sig.Bytes = "jbd", 0
	case s.incompat&^uint32(ext3Incompat) != 0 || s.roCompat&^uint32(ext3ROCompat) != 0:
		sig.Type = string(Ext4)
	case s.compat&extCompatJournal != 0:
		sig.Type = "ext3"
	}
	return sig
}

// clean tells whether the superblock is whole and says that there is nothing to recover or repair.
func (s extSuperblock) clean() bool {
	return s.checksumOK && s.state&(extStateValid|extStateErrors) == extStateValid && s.errorCount == 0 &&
		s.lastOrphan == 0 && s.incompat&extIncompatRecover == 0 && s.roCompat&extROCompatOrphanPresent == 0
}

// product multiplies sizes from a superblock; nonsense that doesn't fit is 0, not known.
func product(a, b uint64) int64 {
	hi, lo := bits.Mul64(a, b)
	if hi != 0 || lo > math.MaxInt64 {
		return 0
	}
	return int64(lo)
}

// formatUUID writes a UUID in its usual form; all zeroes are none.
func formatUUID(b []byte) string {
	var u uuid.UUID
	copy(u[:], b)
	if u == uuid.Nil {
		return ""
	}
	return u.String()
}

// text is a label up to its first NUL, with what can't be printed taken out.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, string(b))
}

// String tells the signature in an error.
func (s Signature) String() string {
	if s.Type == "" {
		return "no signature"
	}
	out := s.Type
	if s.UUID != "" {
		out += " with UUID " + s.UUID
	}
	if s.Bytes > 0 {
		out += fmt.Sprintf(" of %d bytes", s.Bytes)
	}
	return out
}
