package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// containerdLimit is how long containerd may take to listen.
	containerdLimit = 2 * time.Minute
	poll            = 20 * time.Millisecond
	// briefly is how long a service must have run to be started again, as service managers do.
	briefly = 10 * time.Second
)

// Main runs a node until it gets SIGTERM, or containerd or the kubelet ends. It must be process 1. ready is closed
// once the network is there, which whoever started the node gives it; the node's settings are in a file.
func Main(path string, ready io.Reader) error {
	if os.Getpid() != 1 {
		return fmt.Errorf("run a node: process %d, want 1: a node needs a PID namespace of its own", os.Getpid())
	}
	s, err := Read(path)
	if err != nil {
		return fmt.Errorf("run a node: %w", err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	if _, err := io.Copy(io.Discard, ready); err != nil {
		return fmt.Errorf("run the node %s: wait for its network: %w", s.Name, err)
	}
	for _, step := range []func() error{s.makeMachine, s.makeCgroups, s.makeNetwork, s.writeFiles} {
		if err := step(); err != nil {
			return fmt.Errorf("run the node %s: %w", s.Name, err)
		}
	}
	if err := s.run(signals); err != nil {
		return fmt.Errorf("run the node %s: %w", s.Name, err)
	}
	return nil
}

// makeNetwork gives eth0 its address. That and lo are all that there is.
func (s Settings) makeNetwork() error {
	commands := [][]string{
		{"link", "set", "lo", "up"},
		{"address", "add", s.Address.String(), "dev", "eth0"},
		{"link", "set", "eth0", "up"},
		{"route", "add", "default", "via", s.Gateway.String()},
	}
	if s.Device != "" {
		commands = append([][]string{{"link", "set", s.Device, "name", "eth0"}}, commands...)
	}
	for _, args := range commands {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("set up the network: ip %v: %w: %s", args, err, out)
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
}

// run starts containerd, imports the images, starts the kubelet, and runs both until it is told to end.
func (s Settings) run(signals <-chan os.Signal) error {
	r := &reaper{exits: map[int]chan unix.WaitStatus{}}
	containerd := &service{log: s.log("containerd"), program: "containerd", args: []string{"--config", containerdConfig}}
	if err := containerd.start(r); err != nil {
		return err
	}
	go r.reap()
	ctx, cancel := context.WithTimeoutCause(context.Background(), containerdLimit, fmt.Errorf("no socket after %s", containerdLimit))
	defer cancel()
	if err := waitSocket(ctx, containerdSocket); err != nil {
		return fmt.Errorf("wait for containerd: %w", err)
	}
	for _, image := range s.Images {
		importer, err := r.start(s.log("import"), "ctr", "--namespace", "k8s.io", "images", "import", image)
		if err != nil {
			return err
		}
		if status := <-importer; status.ExitStatus() != 0 {
			return fmt.Errorf("import the image %s: exit code %d; %s says why", image, status.ExitStatus(), s.log("import"))
		}
	}
	kubelet := &service{log: s.log("kubelet"), program: s.Kubelet, args: append([]string{
		"--config=" + kubeletConfig, "--kubeconfig=" + s.Kubeconfig, "--hostname-override=" + s.Name,
		"--node-ip=" + s.Address.Addr().String(), "--root-dir=/var/lib/kubelet", "--cert-dir=" + runDir + "/pki", "--v=2",
	}, s.KubeletFlags...)}
	if err := kubelet.start(r); err != nil {
		return err
	}
	for {
		var err error
		select {
		case status := <-containerd.ended:
			err = containerd.again(r, status)
		case status := <-kubelet.ended:
			err = kubelet.again(r, status)
		case <-signals:
			return nil // the kernel ends the rest with process 1
		}
		if err != nil {
			return err
		}
	}
}

func (s Settings) log(name string) string { return filepath.Join(s.Logs, s.Name+"-"+name+".log") }

// waitSocket returns once something listens at the socket.
func waitSocket(ctx context.Context, path string) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		if err = errors.Join(err, unix.Close(fd)); err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}
