package rows

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// The metadata of a disk (docs of type disk): two halves of 256 slots, from 1 MiB on. A slot has a header of 64 bytes with
// the number of its writing at byte 24 and the length of the JSON behind it at byte 32.
const (
	diskSlots  = 256
	slotBytes  = 32 << 10
	slotHeader = 64
	slotMagic  = "DatastoreCSIdisk"
)

// diskMark is what a slot says.
type diskMark struct {
	number int

	Phase, ID, UID, Name string
	Span                 struct{ Start, Bytes int64 }
}

// backendName is the volume's ID and the first digits of its record's UID.
func (m diskMark) backendName() string {
	uid := strings.ReplaceAll(m.UID, "-", "")
	return m.ID + "-" + uid[:min(len(uid), uidDigits)]
}

// marks reads all slots of the disk but the first, which isn't a volume's.
func (s *diskStorage) marks() ([]diskMark, error) {
	f, err := os.Open(s.image)
	if err != nil {
		return nil, err
	}
	all := make([]byte, 2*diskSlots*slotBytes)
	_, err = f.ReadAt(all, diskMiB)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	var out []diskMark
	for n := 1; n < diskSlots; n++ {
		content := slotContent(all[n*slotBytes:][:slotBytes], all[(diskSlots+n)*slotBytes:][:slotBytes])
		if len(content) == 0 {
			continue
		}
		m := diskMark{number: n}
		if err := json.Unmarshal(content, &m); err != nil {
			return nil, fmt.Errorf("slot %d: %w", n, err)
		}
		out = append(out, m)
	}
	return out, nil
}

// slotContent is that of the half that was written last.
func slotContent(halves ...[]byte) []byte {
	var content []byte
	serial := uint64(0)
	for _, h := range halves {
		length := binary.LittleEndian.Uint32(h[32:])
		if n := binary.LittleEndian.Uint64(h[24:]); bytes.HasPrefix(h, []byte(slotMagic)) && n > serial && length <= slotBytes-slotHeader {
			serial, content = n, h[slotHeader:slotHeader+length]
		}
	}
	return content
}

// clearMark takes away what is said of a partition that is to go.
func (s *diskStorage) clearMark(number int) error {
	return s.onDisk(func(f *os.File) error {
		for half := range int64(2) {
			if _, err := f.WriteAt(make([]byte, slotBytes), diskMiB+(half*diskSlots+int64(number))*slotBytes); err != nil {
				return err
			}
		}
		return nil
	})
}

// onDisk does something with the disk's device, and returns once it is on the disk.
func (s *diskStorage) onDisk(do func(*os.File) error) error {
	f, err := os.OpenFile(s.link, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(do(f), f.Sync(), f.Close())
}

// readEnds reads the parts of the disk in which its tables lie.
func (s *diskStorage) readEnds() (first, last []byte, err error) {
	first, last = make([]byte, diskMiB), make([]byte, diskMiB)
	err = s.onDisk(func(f *os.File) error {
		_, err := f.ReadAt(first, 0)
		_, lastErr := f.ReadAt(last, s.bytes+diskTaken-diskMiB)
		return errors.Join(err, lastErr)
	})
	return first, last, err
}

func (s *diskStorage) writeEnds(first, last []byte) error {
	return s.onDisk(func(f *os.File) error {
		_, err := f.WriteAt(first, 0)
		_, lastErr := f.WriteAt(last, s.bytes+diskTaken-diskMiB)
		return errors.Join(err, lastErr)
	})
}
