package harness

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// SetAside copies all bytes of a file or block device into a new file, with holes for zeroes.
func SetAside(t testing.TB, path string) (aside string, err error) {
	aside = filepath.Join(Dir(t), "aside")
	return aside, Run("cp", "--sparse=always", path, aside)
}

// BringBack writes what was set aside over a file or block device of that size.
func BringBack(aside, path string) error {
	if err := Blank(path); err != nil {
		return err
	}
	// Until it is on the storage: the device may be closed for good next.
	return Run("dd", "if="+aside, "of="+path, "bs=1M", "conv=notrunc,sparse,fsync", "status=none")
}

// Blank makes all bytes of a file or block device zeroes. Its size stays.
func Blank(path string) error {
	bytes, err := DeviceBytes(path)
	if err != nil {
		return err
	}
	return BlankPart(path, 0, bytes)
}

// BlankPart makes some bytes of a file or block device zeroes.
func BlankPart(path string, offset, bytes int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	mode := uint32(unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE)
	if !info.Mode().IsRegular() { // a device that can't do it itself is written to
		mode = unix.FALLOC_FL_ZERO_RANGE
	}
	return errors.Join(unix.Fallocate(int(f.Fd()), mode, offset, bytes), f.Sync(), f.Close())
}
