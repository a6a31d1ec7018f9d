// Package container is for a program in a container that works on its host: it runs the program again in the mount
// namespace of process 1, where every path is the host's and what is mounted outlives the container.
//
// The process that the container was started with stays in it: it passes signals on and ends as the other ends. So a command that
// is run in the container later (kubectl exec) still finds the container's files, and the container's mounts live as long as it does.
//
// Of the container the program keeps three things, as descriptors, since no path of the host leads to them: its root and its mount
// namespace, in which tools run (command.Place), and the folder of its account in the cluster.
package container

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/mount"
)

const (
	// marker is the variable by which Inside knows what Enter left; its value names the descriptors in their order.
	marker      = "DATASTORE_CSI_CONTAINER"
	plain       = "root,mounts"
	withAccount = "root,mounts,account"

	// The descriptors: what os/exec gives a child begins behind the three standard ones.
	rootFD    = 3
	mountsFD  = 4
	accountFD = 5

	// accountDir is where every container finds its account.
	accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"
)

// Container is what a process on the host keeps of the container that it came from. Nil is none: then there is nothing but the
// host.
type Container struct{ root, mounts, account *os.File }

// Inside returns the container that Enter left for this process, nil where it was started otherwise. It is called once.
func Inside() (*Container, error) {
	value, given := os.LookupEnv(marker)
	if !given {
		return nil, nil
	}
	if err := os.Unsetenv(marker); err != nil {
		return nil, err
	}
	c := &Container{}
	var err error
	switch value {
	case withAccount:
		if c.account, err = adopt(accountFD, accountDir); err != nil {
			return nil, err
		}
	case plain:
	default:
		return nil, fault.New(fault.Invalid, "the variable %s is the driver's own: it must not be set", marker)
	}
	if c.root, err = adopt(rootFD, "/"); err != nil {
		return nil, err
	}
	unix.CloseOnExec(mountsFD)
	c.mounts = os.NewFile(mountsFD, self)
	// It was started by a path that says nothing. Nobody but people reads it.
	_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
	return c, nil
}

// adopt takes over a folder that this process was started with. The programs that it starts don't get it.
func adopt(fd int, name string) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, fault.New(fault.Invalid, "descriptor %d is not the container's %s: the variable %s is the driver's own and must not be set",
			fd, name, marker)
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name), nil
}

// Tools is where the container's tools are found and run; without a container, where this process is.
func (c *Container) Tools() command.Place {
	if c == nil {
		return command.Place{}
	}
	return command.Place{Root: path(c.root), Mounts: path(c.mounts)}
}

// AccountDir is a path of the folder with the container's account in the cluster; "" where it has none.
func (c *Container) AccountDir() string {
	if c == nil || c.account == nil {
		return ""
	}
	return path(c.account)
}

// path leads this process, and a child until it runs a program, to what f has open.
func path(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// accountMount is where a kubelet mounts the account of a pod.
var accountMount = regexp.MustCompile(`^(/.+)/pods/[^/]+/volumes/kubernetes\.io~projected/[^/]+$`)

// KubeletDir finds the root directory of the kubelet that runs this pod: it has mounted the pod's account there.
func (c *Container) KubeletDir(ctx context.Context, m *mount.Mounter) (string, error) {
	if c == nil || c.account == nil {
		return "", fault.New(fault.NotFound, "the kubelet's directory is found by the pod's account, and there is none: give --kubelet-dir")
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(c.account.Fd()), &st); err != nil {
		return "", fault.New(fault.Internal, "examine the pod's account: %w", err)
	}
	entries, err := m.List(ctx)
	if err != nil {
		return "", err
	}
	var looked []string
	for _, e := range entries {
		if e.Major != int(unix.Major(st.Dev)) || e.Minor != int(unix.Minor(st.Dev)) {
			continue
		}
		if found := accountMount.FindStringSubmatch(e.MountPoint); found != nil && e.Root == "/" {
			return found[1], nil
		}
		looked = append(looked, e.MountPoint)
	}
	return "", fault.New(fault.NotFound, "the kubelet's directory is found by the mount of the pod's account, which this host has at [%s]: "+
		"give --kubelet-dir", strings.Join(looked, ", "))
}
