package testbed

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Config describes a machine. Its zero value is a machine without disks.
type Config struct {
	// Name is the host name: a DNS label. The machine-id is derived from it. Default: a random one.
	Name string
	// Disks are /dev/ubda, /dev/ubdb and so on. At most 16.
	Disks []Disk
	// Memory in bytes; default 2 GiB, half of which /tmp may fill. The host gives it page by page, as it is used.
	Memory int64
	// Modules are loaded at boot. What is mounted, or opened under /dev, loads its own.
	Modules []string
	// Shares are folders of the host seen read-write at the same path. Everything else of the host is seen
	// too, at the same path but for /tmp, /run and /dev, and what is written there vanishes with the boot.
	Shares []string
	// Interfaces are tap devices, of the network namespace that the machine is started in. In the machine they are vec0, vec1
	// and so on, down and without addresses.
	Interfaces []string
	// CPU of the host that the machine is bound to; nil: one that no other machine of this kind is bound to.
	CPU *int
	// HungAfter is how long a task may be blocked in the kernel before the run fails; default one minute,
	// negative: for ever. Tests of a server that is gone need more than the default.
	HungAfter time.Duration
	// Launcher is the program that cmd/vm builds to. Default: what the script vm beside this file gives.
	Launcher string
}

// Disk is a disk of a machine: a raw file.
type Disk struct {
	// Path of the file. Empty: a new sparse file that lives as long as the Machine, over all its boots.
	Path string
	// Size in bytes. Where Path exists already it keeps its own.
	Size int64
}

const (
	defaultMemory    = 2 << 30
	defaultLimit     = 10 * time.Minute
	defaultHungAfter = time.Minute
	maxDisks         = 16
	minMemory        = 128 << 20
)

var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// withDefaults checks c and fills in what is absent.
func (c Config) withDefaults() (Config, error) {
	if c.Name == "" {
		c.Name = "vm-" + strings.ToLower(rand.Text()[:6])
	}
	if !hostName.MatchString(c.Name) {
		return c, fmt.Errorf("machine name %q: want a DNS label", c.Name)
	}
	if c.Memory == 0 {
		c.Memory = defaultMemory
	}
	if c.Memory < minMemory {
		return c, fmt.Errorf("machine %s: %d bytes of memory: want at least %d", c.Name, c.Memory, minMemory)
	}
	if len(c.Disks) > maxDisks {
		return c, fmt.Errorf("machine %s: %d disks: want at most %d", c.Name, len(c.Disks), maxDisks)
	}
	for i, d := range c.Disks {
		if d.Path == "" && d.Size <= 0 {
			return c, fmt.Errorf("machine %s: disk %d: want a path, a size in bytes, or both", c.Name, i)
		}
	}
	switch {
	case c.HungAfter == 0:
		c.HungAfter = defaultHungAfter
	case c.HungAfter < 0:
		c.HungAfter = 0
	}
	return c, nil
}

// MachineID gives what /etc/machine-id holds in a machine of that name, the same at each boot.
func MachineID(name string) string {
	sum := sha256.Sum256([]byte("datastore-csi test machine " + name))
	return hex.EncodeToString(sum[:16])
}

// ParseDisk reads a disk as the vm command takes it: a size ("4G"), a file ("/srv/a.img"), or a file that is
// made with that size if it isn't there ("/srv/a.img:4G").
func ParseDisk(text string) (Disk, error) {
	path, size, sized := strings.Cut(text, ":")
	if !sized && !strings.Contains(text, "/") {
		path, size, sized = "", text, true
	}
	if strings.Contains(text, "/") && path == "" {
		return Disk{}, fmt.Errorf("disk %q: want SIZE, FILE or FILE:SIZE", text)
	}
	disk := Disk{Path: path}
	if sized {
		bytes, err := ParseSize(size)
		if err != nil {
			return Disk{}, fmt.Errorf("disk %q: %w", text, err)
		}
		disk.Size = bytes
	}
	return disk, nil
}

// ParseSize reads bytes with an optional binary unit: 512M, 4G, 1T.
func ParseSize(text string) (int64, error) {
	digits, shift := text, 0
	if i := strings.IndexAny(text, "KMGT"); i >= 0 && i == len(text)-1 {
		digits, shift = text[:i], 10*(1+strings.IndexByte("KMGT", text[i]))
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("size %q: want a number of bytes over 0, with K, M, G or T behind it or nothing", text)
	}
	return n << shift, nil
}

// file gives the disk's file, made where it is absent. Throw-away disks are made in folder.
func (d Disk) file(folder string, index int) (string, error) {
	path := d.Path
	if path == "" {
		path = filepath.Join(folder, fmt.Sprintf("disk%d.img", index))
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if d.Size == 0 {
		_, err := os.Stat(path)
		return path, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return path, nil
	}
	if err != nil {
		return "", err
	}
	return path, errors.Join(file.Truncate(d.Size), file.Close())
}
