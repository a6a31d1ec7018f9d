package lvm

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
)

// resolve returns the devices that paths stand for now, sorted, each once. What is not there is passed over.
func resolve(paths []string) []string {
	var out []string
	for _, p := range paths {
		real, err := filepath.EvalSymlinks(p)
		if err != nil {
			continue
		}
		if _, _, err := blockdev.Number(real); err == nil {
			out = append(out, real)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

const sysBlock = "/sys/class/block"

// strangers are kinds of device that are not looked at unless they are named: what lies on them may be a guest's.
func strangers() []string {
	return []string{"loop", "ram", "zram", "nbd", "rbd", "drbd", "fd", "sr", "zd"}
}

// candidates are this host's devices that may be physical volumes: disks, partitions, and what multipath, md and crypt make
// of them; no logical volumes, and nothing that lies below another device than one.
func candidates() ([]string, error) {
	names, err := os.ReadDir(sysBlock)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "this host's block devices can't be listed: %w", err)
	}
	var out []string
	for _, n := range names {
		name := n.Name()
		kind := strings.TrimRight(name, "0123456789")
		if slices.Contains(strangers(), kind) || strings.HasPrefix(name, "loop") || strings.HasPrefix(name, "nbd") || isVolume(name) || covered(name) {
			continue
		}
		path := "/dev/" + strings.ReplaceAll(name, "!", "/")
		if size, err := blockdev.Size(path); err == nil && size > 0 {
			out = append(out, path)
		}
	}
	return out, nil
}

// isVolume tells a logical volume: device-mapper knows it by a UUID that begins so.
func isVolume(name string) bool {
	uuid, err := os.ReadFile(filepath.Join(sysBlock, name, "dm", "uuid"))
	return err == nil && strings.HasPrefix(string(uuid), "LVM-")
}

// covered tells whether a device lies below another one than a logical volume: its bytes are that one's.
func covered(name string) bool {
	holders, err := os.ReadDir(filepath.Join(sysBlock, name, "holders"))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return slices.ContainsFunc(holders, func(h os.DirEntry) bool { return !isVolume(h.Name()) })
}

// list returns the devices of the group now: those that its datastores name, or that were found.
func (s *shared) list(_ context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var paths []string
	for _, p := range s.paths {
		paths = append(paths, p...)
	}
	return resolve(paths), nil
}

// use says which paths a datastore knows the group's devices by.
func (s *shared) use(datastore string, paths []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paths[datastore] = slices.Clone(paths)
}
