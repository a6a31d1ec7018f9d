package cluster

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// Enter replaces this process by a command that runs in a node, as a shell of that machine would: with its files, processes and
// network. It returns only where that can't be.
func Enter(dir, name string, command []string) error {
	pid, err := running(dir)
	if err != nil {
		return err
	}
	if pid == 0 {
		return fmt.Errorf("enter %s: no cluster runs in %s", name, dir)
	}
	var members []member
	if err := readJSON(Config{Dir: dir}.nodesPath(), &members); err != nil {
		return err
	}
	var names []string
	for _, m := range members {
		if m.Name != name {
			names = append(names, m.Name)
			continue
		}
		if m.Machine {
			return fmt.Errorf("enter %s: it has a kernel of its own; try kubectl debug node/%s -it --image=busybox:stable", name, name)
		}
		// The node's process has its number in the cluster's namespace.
		args := []string{
			"nsenter", "--target", strconv.Itoa(pid), "--mount", "--pid", "--net", "--",
			"nsenter", "--target", strconv.Itoa(m.PID), "--mount", "--pid", "--net", "--uts", "--ipc", "--",
		}
		return syscall.Exec("/usr/bin/nsenter", append(args, command...), os.Environ())
	}
	return fmt.Errorf("enter %s: the cluster has the nodes %q", name, names)
}
