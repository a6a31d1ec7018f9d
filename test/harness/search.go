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
	err = eachChunk(path, func(chunk []byte) bool {
		for i := 0; i+searched <= len(chunk) && !found; i += searched {
			block := chunk[i : i+searched]
			found = bytes.Equal(block, wanted[[16]byte(block[:16])])
		}
		return !found
	})
	return found, err
}

// IsBlank tells whether all bytes of a file or block device are zeroes.
func IsBlank(path string) (blank bool, err error) {
	zeroes := make([]byte, mostChunk)
	blank = true
	err = eachChunk(path, func(chunk []byte) bool {
		blank = bytes.Equal(chunk, zeroes[:len(chunk)])
		return blank
	})
	return blank, err
}

// mostChunk bounds a chunk, in bytes.
const mostChunk = 8 << 20

// eachChunk shows all data of a file or block device, holes left out, until look says no. What is written to that which lies on a
// device goes past what is cached of the device, so that isn't asked.
func eachChunk(path string, look func(chunk []byte) bool) error {
	return whileNothingStarts(func() error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		flags, size := os.O_RDONLY, 1<<20
		if !info.Mode().IsRegular() {
			flags, size = os.O_RDONLY|unix.O_DIRECT, mostChunk
		}
		file, err := os.OpenFile(path, flags, 0)
		if err != nil {
			return err
		}
		buffer, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
		if err == nil {
			err = errors.Join(chunks(file, buffer, look), unix.Munmap(buffer))
		}
		return errors.Join(err, file.Close())
	})
}

func chunks(file *os.File, buffer []byte, look func(chunk []byte) bool) error {
	for next := int64(0); ; {
		at, err := file.Seek(next, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // no data behind it: lseek(2)
		}
		if errors.Is(err, unix.EINVAL) { // a device, which has no holes
			at, err = next, nil
		}
		if err != nil {
			return err
		}
		at -= at % searched
		n, err := unix.Pread(int(file.Fd()), buffer, at)
		if err != nil || n == 0 || !look(buffer[:n]) {
			return err
		}
		next = at + int64(n)
	}
}
