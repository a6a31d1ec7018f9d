package harness

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Photo is what the machine looks like: a description by the name of each thing.
type Photo map[string]string

// Camera says what a photo shows. Times, inode numbers and the numbers of loop devices are no part of it: they may
// differ between two states that are alike.
type Camera struct {
	// Under are the folders whose mounts and loop devices are shown.
	Under []string
	// Files are the folders whose files are shown, with their content, mode and owner. Mount points in them are
	// not entered.
	Files []string
	// Sizes are folders whose files are shown by what they take on disk too, in MiB begun.
	Sizes bool
	// Views show what is neither a file nor a mount.
	Views []View
}

// View adds to a photo what it looks at: devices, volume groups, tables of partitions. It is asked again and again while
// something settles, so it must be cheap.
type View func(Photo) error

// And gives a camera that shows what either of two shows.
func (c Camera) And(other Camera) Camera {
	return Camera{
		Under: slices.Concat(c.Under, other.Under), Files: slices.Concat(c.Files, other.Files),
		Sizes: c.Sizes || other.Sizes, Views: slices.Concat(c.Views, other.Views),
	}
}

// Take looks at the machine.
func (c Camera) Take() (Photo, error) {
	p := Photo{}
	for _, under := range c.Under {
		if err := errors.Join(p.mounts(under), p.loops(under)); err != nil {
			return nil, err
		}
	}
	for _, root := range c.Files {
		if err := p.files(root, c.Sizes); err != nil {
			return nil, err
		}
	}
	for _, look := range c.Views {
		if err := look(p); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// mounts reads /proc/self/mountinfo (proc(5)): field 5 is the mount point, 4 the root in its file system; behind "-"
// stand type and source.
func (p Photo) mounts(under string) error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	count := map[string]int{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		at := slices.Index(fields, "-")
		if at < 6 || len(fields) < at+3 {
			return fmt.Errorf("mountinfo: unexpected line %q", line)
		}
		path := unescape(fields[4])
		if path != under && !strings.HasPrefix(path, under+"/") {
			continue
		}
		count[path]++
		root := fields[3]
		if fields[at+1] == "devtmpfs" { // a bound device node: its number is chance
			root = strings.TrimRight(root, "0123456789")
		}
		p[fmt.Sprintf("mount %s #%d", path, count[path])] = fmt.Sprintf("%s %s %s", fields[at+1], root, fields[5])
	}
	return nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

func (p Photo) loops(under string) error {
	loops, err := Loops(under)
	if err != nil {
		return err
	}
	count := map[string]int{}
	for _, device := range slices.Sorted(maps.Keys(loops)) {
		image := loops[device]
		count[image]++
		ro, err := os.ReadFile("/sys/block/" + device + "/ro")
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		p[fmt.Sprintf("loop on %s #%d", image, count[image])] = "ro=" + strings.TrimSpace(string(ro))
	}
	return nil
}

func (p Photo) files(root string, sizes bool) error {
	var top unix.Stat_t
	err := unix.Lstat(root, &top)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("photograph %s: %w", root, err)
	}
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		var stat unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &stat)
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%v %d:%d", entry.Type()|fs.FileMode(stat.Mode&0o7777), stat.Uid, stat.Gid)
		if stat.Dev != top.Dev {
			// btrfs gives each subvolume a device of its own; none is made in these tests.
			p["file "+path] = text + " mount point"
			return fs.SkipDir
		}
		if entry.Type().IsRegular() {
			sum, err := contentSum(path)
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %d bytes %s", stat.Size, sum)
			if sizes {
				text += fmt.Sprintf(" %d MiB", (stat.Blocks*512+1<<20-1)>>20)
			}
		}
		if entry.Type()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += " -> " + to
		}
		p["file "+path] = text
		return nil
	})
}

// DeviceSum hashes all bytes of a block device, past what is cached of it.
func DeviceSum(path string) (sum string, err error) {
	bytes, err := DeviceBytes(path)
	if err != nil {
		return "", err
	}
	content, err := readDirect(path, int(bytes))
	hash := sha256.Sum256(content)
	return hex.EncodeToString(hash[:12]), err
}

// contentSum hashes what of a file isn't zero, with where it lies: holes and written zeros are alike, and holes cost
// nothing.
func contentSum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // opened for reading
	h := sha256.New()
	const block = 4096
	buffer, zero := make([]byte, 64*block), make([]byte, block)
	for at := int64(0); ; {
		at, err = file.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return hex.EncodeToString(h.Sum(nil)[:12]), nil
		}
		if err != nil {
			return "", err
		}
		at -= at % block
		n, err := file.ReadAt(buffer, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		for i := 0; i < n; i += block {
			b := buffer[i:min(i+block, n)]
			if string(b) == string(zero[:len(b)]) {
				continue
			}
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(at)+uint64(i)))
			h.Write(b)
		}
		if at += int64(n); n == 0 {
			return hex.EncodeToString(h.Sum(nil)[:12]), nil
		}
	}
}

// Diff tells what differs between two photos, one thing a line; "" where nothing does.
func (p Photo) Diff(later Photo) string {
	var lines []string
	for name, text := range p {
		now, there := later[name]
		switch {
		case !there:
			lines = append(lines, "gone:    "+name+" ("+text+")")
		case now != text:
			lines = append(lines, "changed: "+name+": "+text+", now "+now)
		}
	}
	for name, text := range later {
		if _, there := p[name]; !there {
			lines = append(lines, "new:     "+name+" ("+text+")")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
