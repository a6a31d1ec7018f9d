package harness

import (
	"bytes"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// searched is the unit in which file systems lay data out: where data lies on a disk it begins at a multiple of it.
const searched = 4096

// In tells whether any block of the data lies anywhere in a file or device, holes left out. The first block must not be
// zeroes, which a seed never makes.
func (d Data) In(path string) (found bool, err error) {
	wanted := map[[16]byte][]byte{}
	data := d.reader()
	for {
		block := make([]byte, searched)
		if _, err := io.ReadFull(data, block); err != nil {
			break // a block that isn't whole isn't looked for
		}
		wanted[[16]byte(block[:16])] = block
	}
	err = whileNothingStarts(func() error {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		found, err = search(file, wanted)
		return errors.Join(err, file.Close())
	})
	return found, err
}

// search looks at each block of a file's data.
func search(file *os.File, wanted map[[16]byte][]byte) (bool, error) {
	chunk := make([]byte, 256*searched)
	for next := int64(0); ; {
		at, err := file.Seek(next, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return false, nil // no data behind it: lseek(2)
		}
		if err != nil {
			return false, err
		}
		at -= at % searched
		n, err := file.ReadAt(chunk, at)
		for i := 0; i+searched <= n; i += searched {
			block := chunk[i : i+searched]
			if bytes.Equal(block, wanted[[16]byte(block[:16])]) {
				return true, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		next = at + int64(n)
	}
}
