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
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		// What is written to that which lies on a device goes past what is cached of the device.
		flags, chunk := os.O_RDONLY, 1<<20
		if !info.Mode().IsRegular() {
			flags, chunk = os.O_RDONLY|unix.O_DIRECT, 8<<20
		}
		file, err := os.OpenFile(path, flags, 0)
		if err != nil {
			return err
		}
		buffer, err := unix.Mmap(-1, 0, chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
		if err == nil {
			found, err = search(file, buffer, wanted)
			err = errors.Join(err, unix.Munmap(buffer))
		}
		return errors.Join(err, file.Close())
	})
	return found, err
}

// search looks at each block of a file's data.
func search(file *os.File, chunk []byte, wanted map[[16]byte][]byte) (bool, error) {
	for next := int64(0); ; {
		at, err := file.Seek(next, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return false, nil // no data behind it: lseek(2)
		}
		if errors.Is(err, unix.EINVAL) { // a device, which has no holes
			at, err = next, nil
		}
		if err != nil {
			return false, err
		}
		at -= at % searched
		n, err := readAt(file, chunk, at)
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

// readAt is file.ReadAt for a descriptor that wants whole blocks: what ReadAt asks for behind a short answer is none.
func readAt(file *os.File, chunk []byte, at int64) (int, error) {
	n, err := unix.Pread(int(file.Fd()), chunk, at)
	if err == nil && n == 0 {
		err = io.EOF
	}
	return max(n, 0), err
}
