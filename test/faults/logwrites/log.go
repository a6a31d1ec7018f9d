package logwrites

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The log of dm-log-writes: Documentation/admin-guide/device-mapper/log-writes.rst and the structures in drivers/md/dm-log-writes.c
// of Linux 6.1. All numbers are little-endian; all places count in sectors of the size that the super block names. The super block takes
// the first of them, then come the entries: a sector each, and behind it the data that was written.
const (
	logMagic   = 0x6a736677736872
	logVersion = 1

	superBytes = 28 // magic, version, entries, sector size
	entryBytes = 32 // sector, sectors, flags, bytes of data

	flagFlush    = 1 << 0
	flagFUA      = 1 << 1
	flagDiscard  = 1 << 2
	flagMark     = 1 << 3
	flagMetadata = 1 << 4
	allFlags     = flagFlush | flagFUA | flagDiscard | flagMark | flagMetadata
)

// Entry is one thing that happened to the device.
type Entry struct {
	// Offset and Bytes say where it was written or discarded.
	Offset, Bytes int64
	Flush, FUA    bool
	Discard       bool
	// Mark is the text of a mark, "" for a write.
	Mark string
	// data is where the log holds what was written.
	data int64
}

// Safe tells that the device promised, when this was done, to keep all that stands in the log up to here.
func (e Entry) Safe() bool { return e.Flush || e.FUA }

// Log is what was read of a log.
type Log struct {
	Entries []Entry
	source  io.ReaderAt
}

// maxTransfer bounds one entry: no request of the block layer is larger, but a discard may be.
const maxTransfer = 1 << 30

// ReadLog reads a log. What can't be one is an error.
func ReadLog(source io.ReaderAt) (*Log, error) {
	super := make([]byte, superBytes)
	if _, err := source.ReadAt(super, 0); err != nil {
		return nil, fmt.Errorf("read the log's super block: %w", err)
	}
	le := binary.LittleEndian
	count, sector := le.Uint64(super[16:]), int64(le.Uint32(super[24:]))
	switch {
	case le.Uint64(super) != logMagic:
		return nil, fmt.Errorf("magic %#x is not that of a log of dm-log-writes", le.Uint64(super))
	case le.Uint64(super[8:]) != logVersion:
		return nil, fmt.Errorf("version %d of the log is not known", le.Uint64(super[8:]))
	case sector < 512 || sector > 64<<10 || sector&(sector-1) != 0:
		return nil, fmt.Errorf("sectors of %d bytes can't be", sector)
	}
	log := &Log{source: source}
	at := sector
	buffer := make([]byte, sector)
	for i := range count {
		if _, err := source.ReadAt(buffer, at); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read entry %d of %d: %w", i, count, err)
		} else if err != nil {
			return nil, fmt.Errorf("the log ends before entry %d of %d", i, count)
		}
		e, next, err := parseEntry(buffer, at)
		if err != nil {
			return nil, fmt.Errorf("entry %d of %d: %w", i, count, err)
		}
		log.Entries = append(log.Entries, e)
		at = next
	}
	return log, nil
}

// parseEntry reads the entry whose sector lies at a place of the log, and says where the next one lies.
func parseEntry(sector []byte, at int64) (e Entry, next int64, err error) {
	le := binary.LittleEndian
	size := int64(len(sector))
	first, count, flags, length := le.Uint64(sector), le.Uint64(sector[8:]), le.Uint64(sector[16:]), le.Uint64(sector[24:])
	const most = 1 << 40
	switch {
	case flags&^allFlags != 0:
		return e, 0, fmt.Errorf("flags %#x are not known", flags)
	case first > most || count > most:
		return e, 0, fmt.Errorf("%d sectors at %d can't be", count, first)
	}
	e = Entry{
		Offset: int64(first) * size, Bytes: int64(count) * size,
		Flush: flags&flagFlush != 0, FUA: flags&flagFUA != 0, Discard: flags&flagDiscard != 0, data: at + size,
	}
	switch {
	case flags&flagMark != 0:
		if length > uint64(size-entryBytes) {
			return e, 0, fmt.Errorf("a mark of %d bytes can't be", length)
		}
		e.Mark, e.Bytes = string(sector[entryBytes:entryBytes+length]), 0
		return e, at + size, nil
	case e.Discard:
		return e, at + size, nil
	case e.Bytes > maxTransfer:
		return e, 0, fmt.Errorf("a write of %d bytes can't be", e.Bytes)
	}
	return e, at + size + e.Bytes, nil
}

// Device is what a log is replayed onto.
type Device interface {
	io.WriterAt
	// Discard makes a part read as zeroes.
	Discard(offset, bytes int64) error
}

// Replay does to a device what the entries from one index up to, and without, another did.
func (l *Log) Replay(to Device, from, until int) error {
	for i, e := range l.Entries[from:until] {
		var err error
		switch {
		case e.Bytes == 0:
		case e.Discard:
			err = to.Discard(e.Offset, e.Bytes)
		default:
			_, err = io.Copy(io.NewOffsetWriter(to, e.Offset), io.NewSectionReader(l.source, e.data, e.Bytes))
		}
		if err != nil {
			return fmt.Errorf("replay entry %d: %w", from+i, err)
		}
	}
	return nil
}
