package embedded

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// The layout of a bbolt file, version 2, as its package internal/common has it: pages, numbers in the
// machine's own order. A page begins with its number (8 bytes), its kind (2), how many elements it has
// (2) and how many pages more it takes (4). Two meta pages come first; the newer one that is whole
// counts. What is read here is never believed: every number is compared with what there is.
const (
	pageHeader = 16
	element    = 16 // on branch and leaf pages
	pageID     = 8  // on the freelist
	metaPages  = 2
	metaBytes  = 64

	metaMagic   = 0xED0CDAED
	metaVersion = 2

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10

	// bucketEntry marks an element whose value is a bucket: the number of its first page (8 bytes, 0
	// where the page itself follows), a sequence number (8), and the page.
	bucketEntry  = 0x01
	bucketHeader = 16

	noFreelist = ^uint64(0)
	// longCount means that a freelist's real count stands in its first element.
	longCount = 0xFFFF
	// maxDepth is far deeper than any tree that fits on a disk.
	maxDepth = 64
)

// meta is the part of a meta page that says where the rest is.
type meta struct{ root, freelist, pages, transaction uint64 }

// parseMeta reads a meta page behind its header.
func parseMeta(b []byte) (m meta, ok bool) {
	n := binary.NativeEndian
	h := fnv.New64a()
	_, _ = h.Write(b[:metaBytes-8]) // never fails
	ok = n.Uint32(b) == metaMagic && n.Uint32(b[4:]) == metaVersion && n.Uint64(b[metaBytes-8:]) == h.Sum64()
	return meta{root: n.Uint64(b[16:]), freelist: n.Uint64(b[32:]), pages: n.Uint64(b[40:]), transaction: n.Uint64(b[48:])}, ok
}

// inspection is a walk over all pages of a file.
type inspection struct {
	file     io.ReaderAt
	pageSize uint64
	pages    uint64 // how many are in use or free, the meta pages included
	seen     []bool // pages that have their place: in the tree, or on the freelist
}

// inspect fails unless all of a bbolt file's pages are where and as they should be: each in the tree or
// free and never both or twice, keys in their order, nothing reaching past a page's end. Size is the
// file's, in bytes. It reads and never panics.
func inspect(file io.ReaderAt, size, pageSize int64) error {
	var newest meta
	found := false
	for i := range int64(metaPages) {
		b := make([]byte, pageHeader+metaBytes)
		if _, err := file.ReadAt(b, i*pageSize); err != nil {
			return fmt.Errorf("meta page %d: %w", i, err)
		}
		m, ok := parseMeta(b[pageHeader:])
		if got := binary.NativeEndian.Uint64(b); ok && got != uint64(i) {
			return fmt.Errorf("page %d says that it is page %d", i, got)
		}
		if ok && (!found || m.transaction > newest.transaction) {
			newest, found = m, true
		}
	}
	if !found {
		return fmt.Errorf("neither meta page is whole")
	}
	if have := uint64(size / pageSize); newest.pages > have {
		return fmt.Errorf("it has %d pages, and %d are in use: it was cut off", have, newest.pages)
	}
	in := &inspection{file: file, pageSize: uint64(pageSize), pages: newest.pages, seen: make([]bool, newest.pages)}
	if newest.freelist != noFreelist {
		if err := in.freelist(newest.freelist); err != nil {
			return err
		}
	}
	if err := in.tree(newest.root, 0, nil, nil); err != nil {
		return err
	}
	if newest.freelist == noFreelist {
		return nil // other tools for bbolt files may have left it out: then what is not in use is free
	}
	for id := uint64(metaPages); id < in.pages; id++ {
		if !in.seen[id] {
			return fmt.Errorf("page %d is neither in use nor free", id)
		}
	}
	return nil
}

// page is a page with those that it goes on for, or one within a bucket's value.
type page struct {
	id    uint64
	kind  uint16
	count uint64
	bytes []byte
}

// take gives a page its place.
func (in *inspection) take(id uint64) error {
	if id < metaPages || id >= in.pages {
		return fmt.Errorf("page %d is used, and there are %d", id, in.pages)
	}
	if in.seen[id] {
		return fmt.Errorf("page %d is used twice", id)
	}
	in.seen[id] = true
	return nil
}

// read takes a page and reads it.
func (in *inspection) read(id uint64) (page, error) {
	if err := in.take(id); err != nil {
		return page{}, err
	}
	n := binary.NativeEndian
	header := make([]byte, pageHeader)
	if _, err := in.file.ReadAt(header, int64(id*in.pageSize)); err != nil {
		return page{}, fmt.Errorf("page %d: %w", id, err)
	}
	if got := n.Uint64(header); got != id {
		return page{}, fmt.Errorf("page %d says that it is page %d", id, got)
	}
	more := uint64(n.Uint32(header[12:]))
	for i := range more {
		if err := in.take(id + 1 + i); err != nil {
			return page{}, err
		}
	}
	b := make([]byte, (more+1)*in.pageSize)
	if _, err := in.file.ReadAt(b, int64(id*in.pageSize)); err != nil {
		return page{}, fmt.Errorf("page %d: %w", id, err)
	}
	return parsePage(id, b), nil
}

// parsePage reads the header of a page, which must be there.
func parsePage(id uint64, b []byte) page {
	n := binary.NativeEndian
	return page{id: id, kind: n.Uint16(b[8:]), count: uint64(n.Uint16(b[10:])), bytes: b}
}

// freelist takes all free pages.
func (in *inspection) freelist(id uint64) error {
	p, err := in.read(id)
	if err != nil {
		return fmt.Errorf("the list of free pages: %w", err)
	}
	if p.kind != freelistPage {
		return fmt.Errorf("page %d is no list of free pages, but of kind %#x", id, p.kind)
	}
	n, ids := binary.NativeEndian, p.bytes[pageHeader:]
	count := p.count
	if count == longCount {
		count, ids = n.Uint64(ids), ids[pageID:]
	}
	if count > uint64(len(ids)/pageID) {
		return fmt.Errorf("the list of free pages says that it has %d", count)
	}
	for i := range count {
		if err := in.take(n.Uint64(ids[i*pageID:])); err != nil {
			return fmt.Errorf("the list of free pages: %w", err)
		}
	}
	return nil
}

// tree walks a page and all beneath it, whose keys lie from the first bound to before the last one; nil
// is no bound.
func (in *inspection) tree(id uint64, depth int, first, last []byte) error {
	if depth > maxDepth {
		return fmt.Errorf("page %d lies too deep", id)
	}
	p, err := in.read(id)
	if err != nil {
		return err
	}
	switch {
	case p.kind == leafPage:
		return in.leaf(p, depth, first, last)
	case p.kind != branchPage || p.count == 0:
		return fmt.Errorf("page %d is of kind %#x and has %d elements", id, p.kind, p.count)
	}
	n := binary.NativeEndian
	keys, err := p.keys(4, first, last)
	if err != nil {
		return err
	}
	for i, from := range keys {
		to := last
		if i+1 < len(keys) {
			to = keys[i+1]
		}
		child := n.Uint64(p.bytes[pageHeader+i*element+8:])
		if err := in.tree(child, depth+1, from, to); err != nil {
			return err
		}
	}
	return nil
}

// leaf looks at a leaf page, and walks the buckets on it.
func (in *inspection) leaf(p page, depth int, first, last []byte) error {
	n := binary.NativeEndian
	keys, err := p.keys(8, first, last)
	if err != nil {
		return err
	}
	for i, key := range keys {
		at := uint64(pageHeader + i*element)
		flags, begin, length := n.Uint32(p.bytes[at:]), uint64(n.Uint32(p.bytes[at+4:]))+uint64(len(key)), uint64(n.Uint32(p.bytes[at+12:]))
		if at+begin+length > uint64(len(p.bytes)) {
			return fmt.Errorf("page %d: value %d reaches past the page's end", p.id, i)
		}
		if flags&bucketEntry == 0 {
			continue
		}
		if err := in.bucket(p.bytes[at+begin:at+begin+length], depth); err != nil {
			return fmt.Errorf("page %d: bucket %q: %w", p.id, key, err)
		}
	}
	return nil
}

// bucket walks a bucket.
func (in *inspection) bucket(value []byte, depth int) error {
	if len(value) < bucketHeader {
		return fmt.Errorf("it has %d bytes", len(value))
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return in.tree(root, depth+1, nil, nil)
	}
	if len(value) < bucketHeader+pageHeader || depth > maxDepth {
		return fmt.Errorf("it has %d bytes", len(value))
	}
	p := parsePage(0, value[bucketHeader:])
	if p.kind != leafPage {
		return fmt.Errorf("its page is of kind %#x", p.kind)
	}
	return in.leaf(p, depth+1, nil, nil)
}

// keys returns a page's keys, which must be in order. An element has at that place where its key begins,
// counted from the element, and its length next to it (branch: at 0 and 4; leaf: at 4 and 8).
func (p page) keys(lengthAt uint64, first, last []byte) ([][]byte, error) {
	n, size := binary.NativeEndian, uint64(len(p.bytes))
	if pageHeader+p.count*element > size {
		return nil, fmt.Errorf("page %d says that it has %d elements", p.id, p.count)
	}
	keys := make([][]byte, p.count)
	for i := range keys {
		at := uint64(pageHeader + i*element)
		begin, length := uint64(n.Uint32(p.bytes[at+lengthAt-4:])), uint64(n.Uint32(p.bytes[at+lengthAt:]))
		if length == 0 || at+begin+length > size {
			return nil, fmt.Errorf("page %d: key %d reaches past the page's end, or is empty", p.id, i)
		}
		keys[i] = p.bytes[at+begin : at+begin+length]
		switch {
		case i > 0 && bytes.Compare(keys[i-1], keys[i]) >= 0,
			i == 0 && first != nil && bytes.Compare(first, keys[i]) > 0,
			last != nil && bytes.Compare(keys[i], last) >= 0:
			return nil, fmt.Errorf("page %d: key %q is not in its order", p.id, keys[i])
		}
	}
	return keys, nil
}
