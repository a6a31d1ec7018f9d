package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/cluster/control"
	"github.com/datastore-csi/datastore-csi/test/cluster/node"
	"github.com/datastore-csi/datastore-csi/test/testbed"
)

const (
	// machineMemory is taken from this machine as it is used.
	machineMemory = 3 << 30
	machineDisk   = 16 << 30
	// forever is longer than any cluster runs.
	forever = 365 * 24 * time.Hour
)

// startNode starts the first process of a node on this machine's kernel and connects it to the network.
func (c Config) startNode(_ context.Context, plane *control.Plane, m *member, images []string) error {
	settings, err := c.settings(plane, m, images)
	if err != nil {
		return err
	}
	settings.Cgroup, settings.Runtime = c.cgroup(m), "runc"
	path := c.path("nodes", m.Name, "settings.json")
	if err := settings.Write(path); err != nil {
		return err
	}
	log, err := os.Create(c.nodeLog(m))
	if err != nil {
		return err
	}
	defer log.Close()
	connected, connect, err := os.Pipe()
	if err != nil {
		return err
	}
	defer connected.Close()
	defer connect.Close()
	cmd := exec.Command(c.Program, "node", path)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{connected}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	m.PID = cmd.Process.Pid
	go func() {
		fmt.Fprintf(os.Stderr, "%s has ended: %v\n", m.Name, cmd.Wait())
		close(m.ended)
	}()
	link := "node" + strconv.Itoa(m.Index)
	return errors.Join(
		ip([]string{"link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(m.PID)}),
		c.connect(m, link),
	)
}

// startMachine boots a machine of the test bed that is a node, and connects it to the network.
func (c Config) startMachine(ctx context.Context, plane *control.Plane, m *member, images []string) error {
	settings, err := c.settings(plane, m, images)
	if err != nil {
		return err
	}
	// crun, which is no Go program, starts a container there in 4 s, runc in 8 to 11.
	settings.Cgroup, settings.Runtime, settings.Device, settings.Disk = "/", "crun", "vec0", "/dev/ubda"
	path := c.path("nodes", m.Name, "settings.json")
	if err := settings.Write(path); err != nil {
		return err
	}
	disk := c.path("nodes", m.Name, "disk.img")
	if err := makeDisk(disk, machineDisk); err != nil {
		return err
	}
	tap := "node" + strconv.Itoa(m.Index)
	if err := errors.Join(ip([]string{"tuntap", "add", "dev", tap, "mode", "tap"}), c.connect(m, tap)); err != nil {
		return err
	}
	machine, err := testbed.NewMachine(ctx, testbed.Config{
		Name: m.Name, Memory: machineMemory, Disks: []testbed.Disk{{Path: disk}}, Modules: []string{"veth", "dm-thin-pool", "dm-snapshot"},
		Shares: []string{c.Dir}, Interfaces: []string{tap}, HungAfter: -1, Launcher: c.Launcher,
	})
	if err != nil {
		return err
	}
	log, err := os.Create(c.nodeLog(m))
	if err != nil {
		return errors.Join(err, machine.Close())
	}
	run, err := machine.Boot(ctx, testbed.Command{
		Path: c.Program, Args: []string{"node", path}, Limit: forever, Stdout: log, Stderr: log,
	})
	if err != nil {
		return errors.Join(err, machine.Close(), log.Close())
	}
	go func() {
		code, err := run.Wait(ctx)
		_, failed := fmt.Fprintf(log, "%s has ended with code %d: %v\n%s", m.Name, code, err, run.Kernel)
		if err := errors.Join(failed, machine.Close(), log.Close()); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", m.Name, err)
		}
		close(m.ended)
	}()
	return nil
}

// makeDisk makes a sparse file with a file system in it.
func makeDisk(path string, size int64) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Truncate(size), file.Close()); err != nil {
		return err
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=1", path).CombinedOutput(); err != nil {
		return fmt.Errorf("make a file system in %s: %w: %s", path, err, out)
	}
	return nil
}

// connect adds the cluster's end of a node's link to the bridge, and the way to its pods.
func (c Config) connect(m *member, link string) error {
	return ip(
		[]string{"link", "set", link, "master", bridge, "up"},
		[]string{"route", "add", m.pods().String(), "via", m.address().String()},
	)
}

// settings gives a node's settings, with credentials and a folder of its own.
func (c Config) settings(plane *control.Plane, m *member, images []string) (node.Settings, error) {
	dir, own := c.path("nodes", m.Name), c.path("nodes", m.Name, "own")
	if err := os.MkdirAll(own, 0o700); err != nil {
		return node.Settings{}, err
	}
	user := "system:node:" + m.Name
	kubeconfig, err := plane.User(user, "system:nodes")
	if err != nil {
		return node.Settings{}, err
	}
	identity, err := plane.Identity(user, []string{"system:nodes"}, []string{m.Name, m.address().String()})
	if err != nil {
		return node.Settings{}, err
	}
	certificate, key := filepath.Join(dir, "kubelet.crt"), filepath.Join(dir, "kubelet.key")
	if err := os.WriteFile(certificate, identity.Certificate, 0o644); err != nil {
		return node.Settings{}, err
	}
	if err := os.WriteFile(key, identity.Key, 0o600); err != nil {
		return node.Settings{}, err
	}
	return node.Settings{
		Name: m.Name, MachineID: testbed.MachineID(c.Name + "/" + m.Name),
		Address: netip.PrefixFrom(m.address(), 24), Gateway: netip.MustParseAddr(gateway), Pods: m.pods(),
		Dir: own, Logs: c.logs(), Kubelet: filepath.Join(c.Kubernetes, "kubelet"),
		Kubeconfig: kubeconfig, Certificate: certificate, Key: key, Authority: plane.Authority(),
		Images: images,
	}, nil
}

// Inside runs a node in a machine whose process 1 is another: in PID, mount and other namespaces of its own. Its network is there
// already.
func Inside(settings string) error {
	none, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer none.Close()
	cmd := exec.Command("/proc/self/exe", "node", settings)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, []*os.File{none}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC}
	return cmd.Run()
}
