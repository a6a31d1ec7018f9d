package logwrites

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

const testSector = 512

// raw is a log as the kernel writes it.
type raw struct {
	entries int
	body    []byte
}

func (r *raw) add(sector, count, flags uint64, text string, data []byte) {
	head := make([]byte, testSector)
	for i, n := range []uint64{sector, count, flags, uint64(len(text))} {
		binary.LittleEndian.PutUint64(head[8*i:], n)
	}
	copy(head[entryBytes:], text)
	r.body = append(append(r.body, head...), data...)
	r.entries++
}

func (r *raw) log() []byte {
	super := make([]byte, testSector)
	for i, n := range []uint64{logMagic, logVersion, uint64(r.entries)} {
		binary.LittleEndian.PutUint64(super[8*i:], n)
	}
	binary.LittleEndian.PutUint32(super[24:], testSector)
	return slices.Concat(super, r.body)
}

// memory is a device.
type memory []byte

func (m memory) WriteAt(p []byte, at int64) (int, error) { return copy(m[at:], p), nil }

func (m memory) Discard(at, n int64) error { clear(m[at : at+n]); return nil }

func sampleLog() *raw {
	var r raw
	r.add(0, 2, 0, "", bytes.Repeat([]byte{1}, 2*testSector))
	r.add(0, 0, flagFlush, "", nil)
	r.add(0, 0, flagMark, "end:0", nil)
	r.add(1, 1, flagFUA|flagMetadata, "", bytes.Repeat([]byte{2}, testSector))
	r.add(0, 1, flagDiscard, "", nil)
	return &r
}

func TestALogIsReplayedUpToAnyEntry(t *testing.T) {
	log, err := ReadLog(bytes.NewReader(sampleLog().log()))
	if err != nil {
		t.Fatal(err)
	}
	for until, want := range [][2]byte{{0, 0}, {1, 1}, {1, 1}, {1, 1}, {1, 2}, {0, 2}} {
		device := make(memory, 4*testSector)
		if err := log.Replay(device, 0, until); err != nil {
			t.Fatal(err)
		}
		if got := [2]byte{device[0], device[testSector]}; got != want {
			t.Errorf("after %d entries the sectors hold %v, want %v", until, got, want)
		}
	}
	safe := []bool{false, true, false, true, false}
	for i, e := range log.Entries {
		if e.Safe() != safe[i] {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
	if !slices.ContainsFunc(log.Entries, func(e Entry) bool { return e.Mark == "end:0" }) {
		t.Error("the mark is lost")
	}
}

func TestWhatIsNoLogIsRefused(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"nothing":                func([]byte) []byte { return nil },
		"another magic":          func(b []byte) []byte { b[0]++; return b },
		"another version":        func(b []byte) []byte { b[8]++; return b },
		"no sector size":         func(b []byte) []byte { binary.LittleEndian.PutUint32(b[24:], 0); return b },
		"an odd sector size":     func(b []byte) []byte { binary.LittleEndian.PutUint32(b[24:], 513); return b },
		"more entries than are":  func(b []byte) []byte { b[16] += 3; return b },
		"an unknown flag":        func(b []byte) []byte { b[testSector+16] |= 0x80; return b },
		"a place beyond measure": func(b []byte) []byte { b[testSector+7] = 0xff; return b },
	} {
		if _, err := ReadLog(bytes.NewReader(change(sampleLog().log()))); err == nil {
			t.Errorf("%s is read as a log", name)
		}
	}
	long := &raw{}
	long.add(0, 0, flagMark, strings.Repeat("x", 10), nil)
	b := long.log()
	binary.LittleEndian.PutUint64(b[testSector+24:], testSector)
	if _, err := ReadLog(bytes.NewReader(b)); err == nil {
		t.Error("a mark longer than its sector is read")
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add(sampleLog().log())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		log, err := ReadLog(bytes.NewReader(b))
		if err != nil {
			return
		}
		for _, e := range log.Entries {
			if e.Offset < 0 || e.Bytes < 0 || (!e.Discard && e.data+e.Bytes < e.data) {
				t.Errorf("%+v", e)
			}
		}
	})
}
