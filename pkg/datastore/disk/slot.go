package disk

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/gpt"
)

// The metadata partition: two halves of so many slots each.
const (
	metaStart = gpt.MiB
	slots     = gpt.MostPartitions + 1
	slotBytes = 32 << 10
	halfBytes = slots * slotBytes
	metaBytes = 2 * halfBytes

	slotHeader = 64
	// writeUnit is what a slot's writing is rounded up to, in bytes: the largest logical sector.
	writeUnit = 4096
	// maxContent bounds what a slot holds, in bytes.
	maxContent = slotBytes - slotHeader
)

// slotMagic is what each slot begins with.
const slotMagic = "DatastoreCSIdisk"

// The fields of a slot's header behind the magic, by their offsets.
const (
	atVersion = 16
	atNumber  = 20
	atSerial  = 24
	atLength  = 32
	atSum     = 36
	atGUID    = 40

	guidBytes   = 16
	slotVersion = 1
)

// slot is what one half holds of a slot.
type slot struct {
	// serial rises with every writing.
	serial  uint64
	content []byte
}

// offset is where a half of a slot lies on the disk.
func offset(half, number int) int64 {
	return metaStart + int64(half)*halfBytes + int64(number)*slotBytes
}

// encode returns the bytes of a slot, a whole number of writeUnits. The caller has made sure that the content fits.
func (s slot) encode(number int, disk gpt.GUID) []byte {
	size := (slotHeader + len(s.content) + writeUnit - 1) / writeUnit * writeUnit
	b := blockdev.Aligned(size)
	copy(b, slotMagic)
	binary.LittleEndian.PutUint32(b[atVersion:], slotVersion)
	binary.LittleEndian.PutUint32(b[atNumber:], uint32(number))
	binary.LittleEndian.PutUint64(b[atSerial:], s.serial)
	binary.LittleEndian.PutUint32(b[atLength:], uint32(len(s.content)))
	copy(b[atGUID:atGUID+guidBytes], disk.UUID[:])
	copy(b[slotHeader:], s.content)
	binary.LittleEndian.PutUint32(b[atSum:], checksum(b[:slotHeader+len(s.content)]))
	return b
}

// checksum is that of a slot without its own field.
func checksum(b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, b[:atSum])
	return crc32.Update(sum, table, b[atGUID:])
}

// condition is what can be told of one half of a slot.
type condition int

const (
	neverWritten condition = iota
	broken                 // torn, decayed, or it can't be read
	whole
)

// parseSlot reads one half of a slot.
func parseSlot(b []byte, number int, disk gpt.GUID) (slot, condition) {
	if len(bytes.Trim(b[:slotHeader], "\x00")) == 0 {
		return slot{}, neverWritten
	}
	length := binary.LittleEndian.Uint32(b[atLength:])
	switch {
	case string(b[:len(slotMagic)]) != slotMagic,
		binary.LittleEndian.Uint32(b[atVersion:]) != slotVersion,
		binary.LittleEndian.Uint32(b[atNumber:]) != uint32(number),
		!bytes.Equal(b[atGUID:atGUID+guidBytes], disk.UUID[:]),
		int64(length) > int64(len(b)-slotHeader),
		checksum(b[:slotHeader+int(length)]) != binary.LittleEndian.Uint32(b[atSum:]):
		return slot{}, broken
	}
	return slot{binary.LittleEndian.Uint64(b[atSerial:]), bytes.Clone(b[slotHeader : slotHeader+int(length)])}, whole
}

// pair is both halves of a slot.
type pair struct {
	halves [2]slot
	state  [2]condition
}

// latest returns what counts of a slot. One that was never written, or whose first writing was cut off, is empty; ok is
// false where something is lost.
func (p pair) latest() (s slot, ok bool) {
	a, b := p.state[0], p.state[1]
	switch {
	case a == whole && (b != whole || p.halves[0].serial >= p.halves[1].serial):
		return p.halves[0], true
	case b == whole:
		return p.halves[1], true
	}
	return slot{}, a == neverWritten || b == neverWritten
}

// equal tells whether both halves say the same, so that nothing is to be mended.
func (p pair) equal() bool {
	return p.state == [2]condition{} || p.state == [2]condition{whole, whole} && p.halves[0].serial == p.halves[1].serial
}

// older is the half that the next writing begins with: never the one that counts.
func (p pair) older() int {
	latest, ok := p.latest()
	if ok && p.state[0] == whole && p.halves[0].serial == latest.serial {
		return 1
	}
	return 0
}
