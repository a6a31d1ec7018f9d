package harness

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// GPTEntry is a partition as the table on the disk has it (UEFI Specification, 5.3.3). First and Last are blocks.
type GPTEntry struct {
	Number      int
	Type, ID    uuid.UUID
	First, Last uint64
	Attributes  uint64
	Name        string
}

// GPT is a table of partitions. Its blocks have Block bytes.
type GPT struct {
	Disk    uuid.UUID
	Block   int64
	Entries []GPTEntry
}

const (
	gptSignature = "EFI PART"
	gptEntries   = 128 // bytes that an entry has at least
)

// ErrNoGPT is the error of a disk without a table.
var ErrNoGPT = errors.New("there is no GPT")

// ReadGPT reads the table at the beginning of a disk, or the one at its end. A table whose checksums are wrong is an error.
func ReadGPT(disk string, backup bool) (GPT, error) {
	f, err := os.Open(disk)
	if err != nil {
		return GPT{}, err
	}
	g, err := readGPT(f, backup)
	return g, errors.Join(err, f.Close())
}

func readGPT(f *os.File, backup bool) (GPT, error) {
	block := int64(512)
	if n, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET); err == nil { // not a file
		block = int64(n)
	}
	size, err := f.Seek(0, 2)
	if err != nil {
		return GPT{}, err
	}
	at := block
	if backup {
		at = size - block
	}
	// What others wrote to the disk's device is in the same page cache.
	header := make([]byte, block)
	if _, err := f.ReadAt(header, at); err != nil {
		return GPT{}, err
	}
	le := binary.LittleEndian
	if string(header[:8]) != gptSignature {
		return GPT{}, ErrNoGPT
	}
	length := le.Uint32(header[12:])
	if int64(length) > block || length < 92 {
		return GPT{}, fmt.Errorf("GPT header of %d bytes", length)
	}
	sum := bytes.Clone(header[:length])
	clear(sum[16:20])
	if crc32.ChecksumIEEE(sum) != le.Uint32(header[16:]) {
		return GPT{}, errors.New("the checksum of the GPT header is wrong")
	}
	g := GPT{Disk: gptID(header[56:]), Block: block}
	count, each := int(le.Uint32(header[80:])), int(le.Uint32(header[84:]))
	if count < 1 || count > 4096 || each < gptEntries || each > 4096 {
		return GPT{}, fmt.Errorf("GPT with %d entries of %d bytes", count, each)
	}
	entries := make([]byte, count*each)
	if _, err := f.ReadAt(entries, int64(le.Uint64(header[72:]))*block); err != nil {
		return GPT{}, err
	}
	if crc32.ChecksumIEEE(entries) != le.Uint32(header[88:]) {
		return GPT{}, errors.New("the checksum of the GPT's entries is wrong")
	}
	for i := range count {
		if e := gptEntry(entries[i*each:]); e.Type != uuid.Nil {
			e.Number = i + 1
			g.Entries = append(g.Entries, e)
		}
	}
	return g, nil
}

func gptEntry(b []byte) GPTEntry {
	le := binary.LittleEndian
	e := GPTEntry{Type: gptID(b), ID: gptID(b[16:]), First: le.Uint64(b[32:]), Last: le.Uint64(b[40:]), Attributes: le.Uint64(b[48:])}
	var name []uint16
	for i := 56; i < gptEntries; i += 2 {
		if c := le.Uint16(b[i:]); c != 0 {
			name = append(name, c)
		}
	}
	e.Name = string(utf16.Decode(name))
	return e
}

// gptID reads a GUID, whose first three parts are little-endian.
func gptID(b []byte) uuid.UUID {
	return uuid.UUID{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]}
}

// PartitionView shows a disk's partitions: what its table says, whether the two copies of that are alike, and what the kernel
// knows. A disk that isn't there, or has no table, shows nothing of it.
func PartitionView(disk string) View {
	return func(p Photo) error {
		first, err := ReadGPT(disk, false)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENXIO) {
			return nil
		}
		second, backupErr := ReadGPT(disk, true)
		if !errors.Is(err, ErrNoGPT) || !errors.Is(backupErr, ErrNoGPT) {
			p["partition table on "+disk] = fmt.Sprintf("disk %v, errors %v, %v, copies alike %v",
				first.Disk, err, backupErr, fmt.Sprint(first) == fmt.Sprint(second))
		}
		for _, e := range first.Entries {
			p[fmt.Sprintf("partition %d on %s", e.Number, disk)] = fmt.Sprintf("type %v, ID %v, blocks %d to %d, attributes %#x, name %q",
				e.Type, e.ID, e.First, e.Last, e.Attributes, e.Name)
		}
		return kernelPartitions(p, disk)
	}
}

// kernelPartitions adds the partitions that the kernel knows of a disk.
func kernelPartitions(p Photo, disk string) error {
	real, err := filepath.EvalSymlinks(disk)
	if err != nil {
		return err
	}
	starts, err := filepath.Glob(filepath.Join("/sys/block", filepath.Base(real), "*", "start"))
	if err != nil {
		return err
	}
	for _, start := range starts {
		folder := filepath.Dir(start)
		var values []string
		for _, file := range []string{"partition", "start", "size", "ro"} {
			text, err := os.ReadFile(filepath.Join(folder, file))
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
				break // gone meanwhile
			}
			if err != nil {
				return err
			}
			values = append(values, strings.TrimSpace(string(text)))
		}
		if len(values) < 4 {
			continue
		}
		if _, err := strconv.Atoi(values[0]); err != nil {
			return fmt.Errorf("%s has the number %q", folder, values[0])
		}
		p[fmt.Sprintf("kernel's partition %s on %s", values[0], disk)] = fmt.Sprintf("%s sectors from %s, ro=%s", values[2], values[1], values[3])
	}
	return nil
}
