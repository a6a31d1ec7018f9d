package node

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// makeMachine makes the mounts that set the node's files apart from this machine's and from other nodes'.
func (s Settings) makeMachine() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make all mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if s.Disk != "" {
		if err := unix.Mount(s.Disk, s.Dir, "ext4", 0, ""); err != nil {
			return fmt.Errorf("mount %s on %s: %w", s.Disk, s.Dir, err)
		}
	}
	id := filepath.Join(s.Dir, "machine-id")
	if err := os.WriteFile(id, []byte(s.MachineID+"\n"), 0o644); err != nil {
		return err
	}
	binds := map[string]string{id: "/etc/machine-id"}
	// Two kubelets on one /var/log/pods delete each other's logs.
	for name, target := range map[string]string{
		"kubelet": "/var/lib/kubelet", "containerd": "/var/lib/containerd", "cni": "/var/lib/cni", "driver": "/var/lib/datastore-csi",
		"pods": "/var/log/pods", "containers": "/var/log/containers", "srv": "/srv",
	} {
		source := filepath.Join(s.Dir, name)
		if err := errors.Join(os.MkdirAll(source, 0o755), os.MkdirAll(target, 0o755)); err != nil {
			return err
		}
		binds[source] = target
	}
	for source, target := range binds {
		if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s to %s: %w", source, target, err)
		}
	}
	if err := unix.Mount("node", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	// As systemd has it: what is mounted travels into containers that ask for it.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make all mounts shared: %w", err)
	}
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(s.Name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	return fixCPUInfo()
}

// fixCPUInfo adds the line "cpu MHz" to /proc/cpuinfo where the kernel, as User-Mode Linux, has none: the kubelet does not start without.
func fixCPUInfo() error {
	const path = "/proc/cpuinfo"
	content, err := os.ReadFile(path)
	if err != nil || bytes.Contains(content, []byte("cpu MHz")) {
		return err
	}
	fixed := filepath.Join(runDir, "cpuinfo")
	content = bytes.ReplaceAll(content, []byte("bogomips"), []byte("cpu MHz\t\t: 1000.000\nbogomips"))
	if err := os.WriteFile(fixed, content, 0o444); err != nil {
		return err
	}
	return unix.Mount(fixed, path, "", unix.MS_BIND, "")
}

// makeCgroups makes the node's own cgroup in each hierarchy of version 1, or in the one of version 2. It is not removed with the
// node, since a cgroup outlives its mounts: see [RemoveCgroups].
func (s Settings) makeCgroups() error {
	if s.Cgroup == "/" {
		return delegate("/sys/fs/cgroup")
	}
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		path := root
		for name := range strings.SplitSeq(strings.Trim(s.Cgroup, "/"), "/") {
			if err := delegate(path); err != nil {
				return err
			}
			parent := path
			path = filepath.Join(path, name)
			if err := os.MkdirAll(path, 0o755); err != nil {
				return fmt.Errorf("make the cgroup %s: %w", path, err)
			}
			if err := inherit(parent, path); err != nil {
				return err
			}
		}
	}
	return nil
}

// delegate gives the children of a cgroup of version 2 the controllers that it has itself. In version 1 there is nothing to do.
func delegate(path string) error {
	controllers, err := os.ReadFile(filepath.Join(path, "cgroup.controllers"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, controller := range bytes.Fields(controllers) {
		control := filepath.Join(path, "cgroup.subtree_control")
		if err := os.WriteFile(control, append([]byte("+"), controller...), 0); err != nil {
			return fmt.Errorf("give %s to the cgroups of %s: %w", controller, path, err)
		}
	}
	return nil
}

// inherit gives a new cpuset of version 1 the processors and memory of its parent: it has none at first.
func inherit(parent, path string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(path, "cgroup.subtree_control")); err == nil {
			continue // version 2 inherits by itself
		}
		if err := os.WriteFile(filepath.Join(path, name), value, 0); err != nil {
			return fmt.Errorf("set %s of %s: %w", name, path, err)
		}
	}
	return nil
}

// hierarchies gives the mount points of all cgroup hierarchies.
func hierarchies() ([]string, error) {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"/sys/fs/cgroup"}, nil
	}
	var roots []string
	entries, err := os.ReadDir("/sys/fs/cgroup")
	for _, entry := range entries {
		if entry.IsDir() { // links are other names of the same
			roots = append(roots, filepath.Join("/sys/fs/cgroup", entry.Name()))
		}
	}
	return roots, err
}

// RemoveCgroups removes a node's cgroups, which must have no process any more.
func RemoveCgroups(cgroup string) error {
	if cgroup == "" || filepath.Clean(cgroup) == "/" {
		return fmt.Errorf("remove the cgroup %q: that is all of them", cgroup)
	}
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for _, root := range roots {
		errs = append(errs, removeCgroup(filepath.Join(root, cgroup)))
	}
	return errors.Join(errs...)
}

// removeCgroup removes a cgroup and those beneath it. Its files can't be removed, and go with it.
func removeCgroup(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeCgroup(filepath.Join(path, entry.Name())); err != nil {
				return err
			}
		}
	}
	return unix.Rmdir(path)
}
