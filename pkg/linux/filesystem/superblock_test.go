package filesystem_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"unicode"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

// disk is an io.ReaderAt of some size that is zero but for what is put on it, and fails from an offset
// on where that is set.
type disk struct {
	size     int64
	data     map[int64][]byte
	failFrom int64 // 0 = never
}

func (d disk) ReadAt(b []byte, off int64) (int, error) {
	if d.failFrom > 0 && off+int64(len(b)) > d.failFrom {
		return 0, syscall.EIO
	}
	clear(b)
	n := int(max(0, min(int64(len(b)), d.size-off)))
	for at, data := range d.data {
		for i, c := range data {
			if p := at + int64(i) - off; p >= 0 && p < int64(n) {
				b[p] = c
			}
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func TestReadSuperblockOfWhatTheToolsMade(t *testing.T) {
	for name, c := range map[string]struct {
		argv []string
		want filesystem.Signature
	}{
		"ext4":             {[]string{"mke2fs", "-q", "-t", "ext4", "-U", someUUID, "-L", "a label"}, filesystem.Signature{Type: "ext4", UUID: someUUID, Label: "a label", Bytes: 512 * mib}},
		"ext4 of 1k":       {[]string{"mke2fs", "-q", "-t", "ext4", "-b", "1024", "-U", someUUID}, filesystem.Signature{Type: "ext4", UUID: someUUID, Bytes: 512 * mib}},
		"ext3":             {[]string{"mke2fs", "-q", "-t", "ext3", "-U", someUUID}, filesystem.Signature{Type: "ext3", UUID: someUUID, Bytes: 512 * mib}},
		"ext2":             {[]string{"mke2fs", "-q", "-t", "ext2", "-U", someUUID}, filesystem.Signature{Type: "ext2", UUID: someUUID, Bytes: 512 * mib}},
		"a journal device": {[]string{"mke2fs", "-q", "-O", "journal_dev", "-b", "4096", "-U", someUUID}, filesystem.Signature{Type: "jbd", UUID: someUUID}},
		"xfs":              {[]string{"mkfs.xfs", "-q", "-m", "uuid=" + someUUID, "-L", "twelve-bytes"}, filesystem.Signature{Type: "xfs", UUID: someUUID, Label: "twelve-bytes", Bytes: 512 * mib}},
		"btrfs":            {[]string{"mkfs.btrfs", "-q", "-U", someUUID, "-L", "x"}, filesystem.Signature{Type: "btrfs", UUID: someUUID, Label: "x", Bytes: 512 * mib}},
		"swap":             {[]string{"mkswap"}, filesystem.Signature{}},
	} {
		t.Run(name, func(t *testing.T) {
			image := sparse(t, 512*mib)
			do(t, append(c.argv, image)...)
			f, err := os.Open(image)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			if got, err := filesystem.ReadSuperblock(f); err != nil || got != c.want {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

func TestReadSuperblockSaysNoneOnlyWhereItRead(t *testing.T) {
	for name, c := range map[string]struct {
		r    io.ReaderAt
		want string // of the error; "" = none and no error
	}{
		"zeroes":                        {disk{size: gib}, ""},
		"less than the btrfs offset":    {disk{size: 8192}, ""},
		"a single byte":                 {disk{size: 1}, ""},
		"no bytes":                      {disk{size: 0}, "not a single byte"},
		"a failed read at the start":    {bytesAt{iotest.ErrReader(syscall.EIO)}, "can't read 512 bytes at offset 0: input/output error"},
		"reads that work only at first": {disk{size: gib, failFrom: 4096}, "can't read 4096 bytes at offset 65536: input/output error"},
		"reads that fail in between":    {disk{size: gib, failFrom: 1024}, "at offset 1024"},
		"two file systems":              {disk{size: gib, data: map[int64][]byte{0: []byte("XFSB"), 1080: {0x53, 0xEF}}}, "superblocks of xfs and ext2 at once"},
	} {
		t.Run(name, func(t *testing.T) {
			sig, err := filesystem.ReadSuperblock(c.r)
			if sig.Type != "" {
				t.Errorf("got %+v", sig)
			}
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || fault.Is(err, fault.Internal) {
				t.Errorf("got %v", err)
			}
			if strings.Contains(c.want, "input/output") && !errors.Is(err, syscall.EIO) {
				t.Errorf("the cause is lost: %v", err)
			}
		})
	}
}

// bytesAt reads from a stream wherever it is asked to.
type bytesAt struct{ io.Reader }

func (b bytesAt) ReadAt(p []byte, _ int64) (int, error) { return io.ReadFull(b.Reader, p) }

func TestReadSuperblockTakesNoNonsenseForASize(t *testing.T) {
	all := bytes.Repeat([]byte{0xff}, 4096)
	for name, d := range map[string]map[int64][]byte{
		"xfs":   {0: append([]byte("XFSB"), all[:508]...)},
		"btrfs": {65536: append(append(bytes.Clone(all[:64]), "_BHRfS_M"...), all[72:]...)},
		"ext4":  {1024: append(append(bytes.Clone(all[:56]), 0x53, 0xEF), all[58:1024]...)},
	} {
		t.Run(name, func(t *testing.T) {
			sig, err := filesystem.ReadSuperblock(disk{size: gib, data: d})
			if err != nil || sig.Bytes != 0 || sig.Label != "" || (sig.Type != name && sig.Type != "jbd") {
				t.Errorf("got %+v, %v", sig, err)
			}
		})
	}
}

func FuzzReadSuperblock(f *testing.F) {
	xfs := append([]byte("XFSB\x00\x00\x10\x00\x00\x00\x00\x00\x00\x02\x00\x00"), make([]byte, 496)...)
	ext := make([]byte, 1024)
	copy(ext[0x38:], "\x53\xEF\x01\x00")
	btrfs := make([]byte, 4096)
	copy(btrfs[64:], "_BHRfS_M")
	f.Add(xfs, int64(0), int64(1<<30))
	f.Add(ext, int64(1024), int64(1<<30))
	f.Add(btrfs, int64(65536), int64(1<<30))
	f.Add([]byte("x"), int64(1), int64(1))
	f.Fuzz(func(t *testing.T, data []byte, at, size int64) {
		if at < 0 || size < 0 || len(data) > 1<<17 || at > 1<<40 {
			return
		}
		sig, err := filesystem.ReadSuperblock(disk{size: size, data: map[int64][]byte{at: data}})
		if err != nil && sig != (filesystem.Signature{}) || sig.Type == "" && sig != (filesystem.Signature{}) {
			t.Errorf("nothing is known, yet %+v with %v", sig, err)
		}
		if sig.Bytes < 0 || sig.UUID != "" && len(sig.UUID) != 36 || strings.ContainsFunc(sig.Label, unicode.IsControl) {
			t.Errorf("got %+v", sig)
		}
		if size == 0 && err == nil {
			t.Error("an empty device must not read as having nothing on it")
		}
	})
}
