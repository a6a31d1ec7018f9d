package harness

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The text in which LVM keeps a volume group lies on each of its disks. It is read from there, and not asked of LVM's tools: that
// takes no lock, no process, and no word of theirs. What is where: lib/format_text/layout.h and lib/label/label.h in LVM's source.
const (
	lvmSector    = 512
	lvmLabels    = 4 // sectors at the beginning of a disk, in one of which its label is
	lvmLabel     = "LABELONE"
	lvmMagic     = " LVM2 x[5A%r0N*>"
	lvmMDAHeader = 512
	lvmMostText  = 64 << 20
)

// ErrNoVolumeGroup is the error of a disk on which no volume group is.
var ErrNoVolumeGroup = errors.New("no volume group is on it")

// VolumeGroup is what a disk says of the volume group that it belongs to.
type VolumeGroup struct {
	Name, ID string
	// Text by section and entry: "logical_volumes" and a name, "physical_volumes" and a name; "" for the group's own.
	Sections map[string]map[string][]string
}

// ReadVolumeGroup reads the volume group that a disk belongs to, from the disk itself.
func ReadVolumeGroup(disk string) (VolumeGroup, error) {
	f, err := os.OpenFile(disk, os.O_RDONLY|unix.O_DIRECT, 0) // others write past the page cache, too
	if err != nil {
		return VolumeGroup{}, err
	}
	text, err := volumeGroupText(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return VolumeGroup{}, fmt.Errorf("%s: %w", disk, err)
	}
	return parseVolumeGroup(text)
}

// readDirect reads the first bytes of a device past the page cache.
func readDirect(path string, n int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	out, err := readPart(f, 0, int64(n))
	return out, errors.Join(err, f.Close())
}

// readPart reads some bytes from a descriptor that wants whole blocks in aligned memory.
func readPart(f *os.File, offset, n int64) ([]byte, error) {
	const align = 4096
	begin := offset / align * align
	whole := (offset + n - begin + align - 1) / align * align
	buffer, err := unix.Mmap(-1, 0, int(whole), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	got := int64(0)
	for got < whole {
		m, err := unix.Pread(int(f.Fd()), buffer[got:], begin+got)
		if err != nil {
			return nil, errors.Join(err, unix.Munmap(buffer))
		}
		if got += int64(m); m == 0 || m%align != 0 {
			break // the end
		}
	}
	if got < offset-begin+n {
		return nil, errors.Join(io.ErrUnexpectedEOF, unix.Munmap(buffer))
	}
	out := bytes.Clone(buffer[offset-begin : offset-begin+n])
	return out, unix.Munmap(buffer)
}

// volumeGroupText finds the committed text on a disk.
func volumeGroupText(f *os.File) (string, error) {
	head, err := readPart(f, 0, lvmLabels*lvmSector)
	if err != nil {
		return "", err
	}
	le := binary.LittleEndian
	for sector := 0; sector < len(head); sector += lvmSector {
		label := head[sector : sector+lvmSector]
		if string(label[:8]) != lvmLabel {
			continue
		}
		at := int(le.Uint32(label[20:])) + 40 // behind the disk's UUID and size: two lists, each ended by a zero
		for at+16 <= lvmSector && le.Uint64(label[at:]) != 0 {
			at += 16
		}
		if at += 16; at+16 > lvmSector {
			break
		}
		return textAt(f, int64(le.Uint64(label[at:])), int64(le.Uint64(label[at+8:])))
	}
	return "", ErrNoVolumeGroup
}

// textAt reads the text of a metadata area, which is a ring behind its header.
func textAt(f *os.File, area, size int64) (string, error) {
	if area <= 0 {
		return "", ErrNoVolumeGroup
	}
	header, err := readPart(f, area, lvmMDAHeader)
	if err != nil {
		return "", err
	}
	le := binary.LittleEndian
	offset, length := int64(le.Uint64(header[40:])), int64(le.Uint64(header[48:]))
	if string(header[4:20]) != lvmMagic || offset == 0 || length == 0 {
		return "", ErrNoVolumeGroup
	}
	if offset >= size || length > min(size, lvmMostText) {
		return "", errors.New("a text of LVM that is longer than its area")
	}
	first := min(length, size-offset)
	text, err := readPart(f, area+offset, first)
	if err == nil && first < length {
		var rest []byte
		rest, err = readPart(f, area+lvmMDAHeader, length-first)
		text = append(text, rest...)
	}
	return string(bytes.TrimRight(text, "\x00")), err
}

// parseVolumeGroup reads LVM's text: "name { key = value ... }", nested.
func parseVolumeGroup(text string) (VolumeGroup, error) {
	vg := VolumeGroup{Sections: map[string]map[string][]string{"": {}}}
	var path []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "\t#")
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasSuffix(line, "{"):
			path = append(path, strings.TrimSpace(strings.TrimSuffix(line, "{")))
		case line == "}":
			if len(path) == 0 {
				return vg, fmt.Errorf("LVM's text: unexpected end of a section")
			}
			path = path[:len(path)-1]
		default:
			vg.add(path, line)
		}
	}
	if len(path) > 0 || vg.ID == "" {
		return vg, fmt.Errorf("LVM's text ends in section %q of the volume group %q", path, vg.Name)
	}
	return vg, nil
}

func (vg *VolumeGroup) add(path []string, line string) {
	if len(path) == 0 {
		return // how and when it was written
	}
	vg.Name = path[0]
	section, entry := "", ""
	if len(path) > 2 {
		section, entry = path[1], path[2]
		line = strings.Join(append(slices.Clone(path[3:]), line), " ")
	}
	if key, value, _ := strings.Cut(line, " = "); section == "" && key == "id" {
		vg.ID = strings.Trim(value, `"`)
	}
	if vg.Sections[section] == nil {
		vg.Sections[section] = map[string][]string{}
	}
	vg.Sections[section][entry] = append(vg.Sections[section][entry], line)
}

// Get gives the value of a key of an entry, without quotes, or "".
func (vg VolumeGroup) Get(section, entry, key string) string {
	for _, line := range vg.Sections[section][entry] {
		if k, value, ok := strings.Cut(line, " = "); ok && k == key {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// changing are the keys that differ between two states that are alike: what counts changes, and when and where one was made.
var changing = map[string]bool{"seqno": true, "creation_time": true, "creation_host": true, "transaction_id": true}

// VolumeGroupView shows the volume group of a disk: its own text and that of each logical volume. A disk that isn't there shows
// nothing, and so does one of no volume group.
func VolumeGroupView(disk string) View {
	return func(p Photo) error {
		vg, err := ReadVolumeGroup(disk)
		if errors.Is(err, ErrNoVolumeGroup) || errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		for section, entries := range vg.Sections {
			for entry, lines := range entries {
				if section != "" && section != "logical_volumes" {
					continue
				}
				kept := slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
					words := strings.Fields(line)
					return slices.ContainsFunc(words, func(w string) bool { return changing[w] })
				})
				p[strings.TrimSpace("volume group "+vg.Name+" "+entry)] = strings.Join(kept, "; ")
			}
		}
		return nil
	}
}
