package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// chunk is how much is written and read at once.
const chunk = 1 << 20

// content is what was written to a volume: random bytes, remembered by their checksum only.
type content struct {
	sum   hash.Hash
	bytes int64
}

func newContent() *content { return &content{sum: sha256.New()} }

// frozen is the content as it is now, whatever is added later.
func (c *content) frozen() (*content, error) {
	clone, ok := c.sum.(hash.Cloner)
	if !ok {
		return nil, errors.New("the hash can't be cloned")
	}
	sum, err := clone.Clone()
	return &content{sum: sum, bytes: c.bytes}, err
}

// add writes random bytes where the file stands, and returns once they must survive a power cut. The
// count is a multiple of a chunk.
func (c *content) add(file *os.File, bytes int64) error {
	block := make([]byte, chunk)
	for range bytes / chunk {
		if _, err := io.ReadFull(rand.Reader, block); err != nil {
			return err
		}
		if _, err := file.Write(block); err != nil {
			return err
		}
		_, _ = c.sum.Write(block) // a hash never fails
		c.bytes += chunk
	}
	return file.Sync()
}

// check reads a file or device from its start, past the page cache where it can be dropped, and compares.
func (c *content) check(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // opened for reading
	// Only a hint: what is mapped stays in the cache.
	_ = unix.Fadvise(int(file.Fd()), 0, c.bytes, unix.FADV_DONTNEED)
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(file, c.bytes))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if n != c.bytes {
		return fmt.Errorf("DATA LOST: %s holds %d bytes of the %d that were written", path, n, c.bytes)
	}
	if got, want := hex.EncodeToString(sum.Sum(nil)), hex.EncodeToString(c.sum.Sum(nil)); got != want {
		return fmt.Errorf("DATA CHANGED: %s has the SHA-256 %s, what was written has %s", path, got, want)
	}
	return nil
}

// String tells how much it is and how its checksum begins.
func (c *content) String() string {
	return fmt.Sprintf("%s, sha256 %.12s...", inBytes(c.bytes), hex.EncodeToString(c.sum.Sum(nil)))
}
