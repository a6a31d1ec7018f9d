package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// A double is a small file that is written often. It has two halves of one size; each holds a line with the
// sum (CRC-32C) of what follows it, a number that rises with every writing and the length of the content,
// then the content, then empty lines to its end. The half with the higher number counts; the other one is
// written next. So a write that a crash breaks off leaves the content before it, and costs one flush of the
// disk and no commit of the file system's journal, since the file has its space and keeps its length:
// a fifth of what WriteFile takes on ext4.
//
// No content says that the file is ended: its name is gone, or goes with the next call of EndDouble.
const (
	// halfUnit is what the halves' sizes are multiples of: the file system's blocks, so that a broken write
	// to one half can't hurt the other.
	halfUnit = 4096
	// maxHeader bounds a half's first line.
	maxHeader = 64
	filler    = '\n'
)

// half is what one half of a double holds.
type half struct {
	number  uint64
	content []byte
}

// encode returns a half of that size. The caller has made sure that it fits.
func (h half) encode(size int) []byte {
	out := bytes.Repeat([]byte{filler}, size)
	body := fmt.Sprintf(" %d %d\n%s", h.number, len(h.content), h.content)
	copy(out, fmt.Sprintf("%08x%s", crc32.Checksum([]byte(body), castagnoli()), body))
	return out
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// parseHalf reads a half; ok is false where it is not whole.
func parseHalf(raw []byte) (h half, ok bool) {
	line, rest, found := bytes.Cut(raw, []byte{'\n'})
	if !found || len(line) > maxHeader {
		return half{}, false
	}
	var sum uint32
	var length int
	if n, err := fmt.Sscanf(string(line), "%08x %d %d", &sum, &h.number, &length); n != 3 || err != nil {
		return half{}, false
	}
	const sumDigits = 8
	if length < 0 || length > len(rest) || len(line) < sumDigits ||
		crc32.Checksum(raw[sumDigits:len(line)+1+length], castagnoli()) != sum {
		return half{}, false
	}
	h.content = rest[:length]
	return h, true
}

// double is a double's content.
type double struct {
	halves [2]half
	whole  [2]bool
	size   int    // of a half, in bytes
	plain  []byte // of a file of WriteFile
	blank  bool   // nothing was ever written
}

// parseDouble reads a double's bytes. A file of WriteFile, which knows no halves, is plain.
func parseDouble(raw []byte) (double, error) {
	d := double{size: len(raw) / 2, blank: len(raw) == 0}
	if d.blank {
		return d, nil
	}
	if len(raw)%(2*halfUnit) == 0 {
		for i := range d.halves {
			d.halves[i], d.whole[i] = parseHalf(raw[i*d.size : (i+1)*d.size])
		}
		if d.whole[0] || d.whole[1] {
			return d, nil
		}
	}
	switch {
	case raw[0] == '{':
		return double{plain: raw}, nil
	case len(raw)%(2*halfUnit) != 0, len(bytes.Trim(raw, "\x00")) == 0:
		// The first writing was broken off: later ones leave the length as it is.
		return double{}, nil
	}
	return double{}, fault.New(fault.DataLoss, "neither half of it is whole")
}

// latest returns which half counts, or -1 where there is none.
func (d double) latest() int {
	switch {
	case d.whole[0] && (!d.whole[1] || d.halves[0].number > d.halves[1].number):
		return 0
	case d.whole[1]:
		return 1
	}
	return -1
}

// content is what the double says; nil where it is ended, or was never whole.
func (d double) content() []byte {
	if i := d.latest(); i >= 0 {
		return d.halves[i].content
	}
	return d.plain
}

// ReadDouble returns the content of a file of WriteDouble, or of one of WriteFile that holds a JSON object. One
// that is ended, or was broken off before WriteDouble first returned, is fault.NotFound like one that is not there;
// one that can't be understood is fault.DataLoss; one of more than limit bytes is fault.Precondition.
func (r *Root) ReadDouble(name string, limit int64) ([]byte, error) {
	raw, err := r.ReadFile(name, maxDouble)
	if err != nil {
		return nil, err
	}
	d, err := parseDouble(raw)
	if err != nil {
		return nil, failed("read", r.full(name), err)
	}
	content := d.content()
	switch {
	case len(content) == 0:
		return nil, fault.New(fault.NotFound, "read %s: it is empty", r.full(name))
	case int64(len(content)) > limit:
		return nil, fault.New(fault.Precondition, "read %s: it is longer than %d bytes", r.full(name), limit)
	}
	return content, nil
}

// WriteDouble makes a file or replaces its content, durably: after a crash at any point ReadDouble finds the content
// before or this one. Content must not be empty. Two calls for one name must not run at once.
func (r *Root) WriteDouble(ctx context.Context, name string, content []byte, mode fs.FileMode) error {
	if len(content) == 0 {
		return fault.New(fault.Internal, "write %s: there is no content", r.full(name))
	}
	f, err := r.OpenWrite(name)
	if fault.Is(err, fault.NotFound) {
		f, err = r.Create(ctx, name, mode)
	}
	if err != nil {
		return err
	}
	defer release(f)
	d, err := readDouble(f)
	switch {
	case err != nil && !fault.Is(err, fault.DataLoss):
		return err
	case d.blank:
		if err := writeAt(ctx, f, name, newDouble(content), 0); err != nil {
			return err
		}
		return errors.Join(sync(f), r.syncParent(name))
	case d.latest() < 0 || len(content)+maxHeader > d.size:
		// What can't be understood was judged by whoever read it; here it is replaced.
		return r.WriteFile(ctx, name, newDouble(content), mode)
	}
	err = overwrite(ctx, f, name, d, content)
	if fault.Is(err, fault.Unavailable) {
		// The disk failed. Which half it has now can't be known: what is read comes from memory. So neither is
		// written over; all of the file is made anew.
		return errors.Join(err, r.WriteFile(ctx, name, newDouble(content), mode))
	}
	return err
}

// EndDouble removes a file of WriteDouble, durably: after a crash ReadDouble doesn't find it. Its name may then be there
// again, with no content, until EndDouble is called once more. What is not there is success.
func (r *Root) EndDouble(ctx context.Context, name string) error {
	f, err := r.OpenWrite(name)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release(f)
	d, err := readDouble(f)
	if err != nil && !fault.Is(err, fault.DataLoss) {
		return err
	}
	if d.latest() < 0 {
		return r.Unlink(ctx, name)
	}
	if err := overwrite(ctx, f, name, d, nil); err != nil {
		return err
	}
	dir, _, err := r.parent(name)
	if err != nil {
		return err
	}
	defer release(dir)
	return r.unlink(ctx, dir, name)
}

// newDouble returns the bytes of a double with that content, and room for it to grow.
func newDouble(content []byte) []byte {
	size := (2*len(content) + maxHeader + halfUnit - 1) / halfUnit * halfUnit
	return append(half{1, content}.encode(size), bytes.Repeat([]byte{filler}, size)...)
}

// overwrite puts content into the half that doesn't count.
func overwrite(ctx context.Context, f *os.File, name string, d double, content []byte) error {
	last := d.latest()
	next := half{d.halves[last].number + 1, content}
	if err := writeAt(ctx, f, name, next.encode(d.size), int64((1-last)*d.size)); err != nil {
		return err
	}
	return failed("sync", f.Name(), retry(func() error { return unix.Fdatasync(int(f.Fd())) }))
}

func writeAt(ctx context.Context, f *os.File, name string, data []byte, at int64) error {
	err := step.Do(ctx, "write "+name, func() error {
		_, err := f.WriteAt(data, at)
		return err
	})
	return failed("write", f.Name(), err)
}

// maxDouble bounds a double, in bytes, its room to grow included.
const maxDouble = 32 << 20

func readDouble(f *os.File) (double, error) {
	raw, err := readAll(f, maxDouble)
	if err != nil {
		return double{}, failed("read", f.Name(), err)
	}
	return parseDouble(raw)
}

// syncParent makes a name durable.
func (r *Root) syncParent(name string) error {
	dir, _, err := r.parent(name)
	if err != nil {
		return err
	}
	defer release(dir)
	return sync(dir)
}
