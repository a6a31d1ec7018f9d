package btrfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Numbers of linux/btrfs_tree.h.
const (
	rootTree  = 1
	quotaTree = 8

	rootRef      = 156
	qgroupStatus = 240
	qgroupInfo   = 242
	qgroupLimits = 244
)

// item is one of a tree.
type item struct {
	offset uint64
	data   []byte
}

// search returns the items of one object and type whose offsets lie in a range, in their order: as many as fit into one
// answer.
func search(f *os.File, tree, object uint64, kind uint32, from, to uint64) ([]item, error) {
	a := treeSearch{
		tree: tree, minObject: object, maxObject: object, minOffset: from, maxOffset: to,
		maxTransaction: math.MaxUint64, minType: kind, maxType: kind, items: math.MaxUint32,
	}
	if err := ioctl(f, iocTreeSearch, unsafe.Pointer(&a)); err != nil {
		return nil, err
	}
	return parse(a.found[:], a.items)
}

// parse reads what a search found: that many times a header (transaction, object, offset, type, length) and the item.
func parse(b []byte, items uint32) ([]item, error) {
	var out []item
	for range items {
		if len(b) < searchHeader {
			return nil, fault.New(fault.Internal, "the kernel's answer ends in a header: %d bytes", len(b))
		}
		length := uint64(binary.NativeEndian.Uint32(b[28:]))
		if uint64(len(b)-searchHeader) < length {
			return nil, fault.New(fault.Internal, "the kernel's answer ends in an item: %d bytes of %d", len(b)-searchHeader, length)
		}
		end := searchHeader + length
		out = append(out, item{offset: binary.NativeEndian.Uint64(b[16:]), data: b[searchHeader:end]})
		b = b[end:]
	}
	return out, nil
}

// child is a subvolume that lies in another one: its number, the inode number of its directory there, and its name in
// that.
type child struct {
	id, dir uint64
	name    string
}

// children returns the subvolumes that lie in another one, not deeper.
func children(f *os.File, id uint64) ([]child, error) {
	var out []child
	for from := uint64(0); ; {
		found, err := search(f, rootTree, id, rootRef, from, math.MaxUint64)
		if err != nil || len(found) == 0 {
			return out, err
		}
		for _, i := range found {
			out = append(out, parseChild(i))
			from = i.offset + 1
		}
	}
}

// parseChild reads struct btrfs_root_ref: directory, sequence, length of the name, name.
func parseChild(i item) child {
	const nameAt = 18
	c := child{id: i.offset}
	if len(i.data) >= nameAt {
		c.dir = binary.LittleEndian.Uint64(i.data)
		length := int(binary.LittleEndian.Uint16(i.data[16:]))
		c.name = string(i.data[nameAt:min(len(i.data), nameAt+length)])
	}
	return c
}

// Nested returns the paths, beneath the subvolume that an open file is in, of the subvolumes that lie directly in it.
func Nested(f *os.File) ([]string, error) {
	id, err := ID(f)
	if err != nil {
		return nil, err
	}
	all, err := children(f, id)
	if err != nil {
		return nil, failed("look for subvolumes nested in", f, "", err)
	}
	var out []string
	for _, c := range all {
		a := inodeLookup{tree: id, object: c.dir}
		if err := ioctl(f, iocInodeLookup, unsafe.Pointer(&a)); err != nil {
			return nil, failed("look for subvolumes nested in", f, "", err)
		}
		dir, _, _ := bytes.Cut(a.name[:], []byte{0})
		out = append(out, string(dir)+c.name)
	}
	return out, nil
}

// quotaItem returns the little-endian numbers of an item of the quota tree; none where there is no such item, or no
// such tree.
func quotaItem(f *os.File, kind uint32, qgroup uint64) ([]uint64, error) {
	found, err := search(f, quotaTree, 0, kind, qgroup, qgroup)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil || len(found) == 0 {
		return nil, err
	}
	data := found[0].data
	out := make([]uint64, len(data)/8)
	for i := range out {
		out[i] = binary.LittleEndian.Uint64(data[i*8:])
	}
	return out, nil
}
