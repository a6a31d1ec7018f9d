package harness

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Data is bytes that follow from a seed alone, so that they can be told from any others without a copy: by another
// process, or after a power cut. No two of its blocks are alike.
type Data struct {
	Seed  string
	Bytes int64
}

// A program that is started by this process holds, until it is itself, all that the process has open: an open file in a
// volume would keep the volume's mount busy for a moment after it was closed. So nothing is started while one is open.
func whileNothingStarts(do func() error) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return do()
}

// reader gives the bytes.
func (d Data) reader() io.Reader {
	return io.LimitReader(rand.NewChaCha8(sha256.Sum256([]byte(d.Seed))), d.Bytes)
}

// Sum is the SHA-256 of the bytes.
func (d Data) Sum() string { return mustSum(d.reader()) }

func mustSum(r io.Reader) string {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		panic(err) // neither a hash nor a generator of numbers fails
	}
	return hex.EncodeToString(h.Sum(nil))
}

// WriteFile writes the data to a new file and returns once it must survive a power cut: file and folder are synced.
func (d Data) WriteFile(path string) error {
	return whileNothingStarts(func() error { return d.writeFile(path) })
}

func (d Data) writeFile(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, d.reader())
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// CheckFile reads a file back, past the page cache where it can be dropped.
func (d Data) CheckFile(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() != d.Bytes {
		return fmt.Errorf("%s has %d bytes, not the %d that were written", path, info.Size(), d.Bytes)
	}
	return d.CheckDevice(path, 0)
}

// WriteDevice writes the data to a block device and flushes it.
func (d Data) WriteDevice(path string, offset int64) error {
	return whileNothingStarts(func() error { return d.writeDevice(path, offset) })
}

func (d Data) writeDevice(path string, offset int64) error {
	device, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.NewOffsetWriter(device, offset), d.reader())
	return errors.Join(err, device.Sync(), device.Close())
}

// Overwrite writes the data into a file, which is made where it isn't there, or to a device, and syncs it. Unlike the other ways it lets
// programs start meanwhile: where the file system is frozen, it may be the start of one that thaws it.
func (d Data) Overwrite(path string, offset int64) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.NewOffsetWriter(file, offset), d.reader())
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// CheckDevice reads a device (or file) from an offset and compares.
func (d Data) CheckDevice(path string, offset int64) error {
	return whileNothingStarts(func() error { return d.checkDevice(path, offset) })
}

func (d Data) checkDevice(path string, offset int64) error {
	device, err := os.Open(path)
	if err != nil {
		return err
	}
	// Only a hint: what is dirty or mapped stays in the cache.
	_ = unix.Fadvise(int(device.Fd()), offset, d.Bytes, unix.FADV_DONTNEED)
	err = compare(io.NewSectionReader(device, offset, d.Bytes), d.reader())
	if err := errors.Join(err, device.Close()); err != nil {
		return fmt.Errorf("data %q in %s: %w", d.Seed, path, err)
	}
	return nil
}

// compare reads both to the end and names the first place where they differ.
func compare(got, want io.Reader) error {
	const block = 64 << 10
	a, b := make([]byte, block), make([]byte, block)
	for at := int64(0); ; at += block {
		n, err := io.ReadFull(want, b)
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return err
		}
		m, err := io.ReadFull(got, a[:n])
		if err != nil && n > 0 {
			return fmt.Errorf("at byte %d: %w", at+int64(m), err)
		}
		if !bytes.Equal(a[:n], b[:n]) {
			for i := range n {
				if a[i] != b[i] {
					return fmt.Errorf("byte %d is %#x, %#x was written", at+int64(i), a[i], b[i])
				}
			}
		}
		if last {
			return nil
		}
	}
}

// DeviceBytes gives the size of a block device.
func DeviceBytes(path string) (size int64, err error) {
	err = whileNothingStarts(func() error {
		device, err := os.Open(path)
		if err != nil {
			return err
		}
		size, err = device.Seek(0, io.SeekEnd)
		return errors.Join(err, device.Close())
	})
	return size, err
}
