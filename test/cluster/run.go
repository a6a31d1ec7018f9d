package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/cluster/control"
)

const (
	// nodesLimit is how long nodes may take to be Ready.
	nodesLimit = 10 * time.Minute
	// endLimit is how long the kernel may take to end all of a cluster: mounts and file systems too.
	endLimit = 2 * time.Minute
	poll     = 100 * time.Millisecond
)

// Run is the first process of a cluster: it starts everything, writes "ready" or what failed to report and closes it, and then
// waits for SIGTERM. door listens at this machine's loopback address. Up starts it, in namespaces of its own.
func Run(dir string, door net.Listener, report io.WriteCloser) error {
	if os.Getpid() != 1 {
		return fmt.Errorf("run a cluster: process %d, want 1: it needs a PID namespace of its own", os.Getpid())
	}
	var c Config
	if err := readJSON(Config{Dir: dir}.configPath(), &c); err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	err := c.start(context.Background(), door)
	if err != nil {
		_, failed := fmt.Fprintf(report, "start the cluster %s: %v\n", c.Name, err)
		return errors.Join(err, failed, report.Close())
	}
	if _, err := fmt.Fprintln(report, readyWord); err != nil {
		return err
	}
	if err := report.Close(); err != nil {
		return err
	}
	<-signals // the kernel ends all the rest with process 1
	return nil
}

// readyWord is what Run reports.
const readyWord = "ready"

func (c Config) start(ctx context.Context, door net.Listener) error {
	if err := c.noteState(); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make all mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := makeNetwork(); err != nil {
		return err
	}
	go serveDoor(door)
	images, err := c.makeImages(ctx)
	if err != nil {
		return err
	}
	plane, err := control.Start(ctx, control.Config{
		Dir: c.path("control"), Address: gateway, Port: 443, Everywhere: true, Controllers: true,
	})
	if err != nil {
		return err
	}
	local := "https://127.0.0.1:" + strconv.Itoa(c.LocalPort)
	path, err := plane.UserAt(local, "admin", "system:masters")
	if err != nil {
		return err
	}
	if err := os.Symlink(path, c.Kubeconfig()); err != nil {
		return err
	}
	members := c.members()
	for _, m := range members {
		start := c.startNode
		if m.Machine {
			start = c.startMachine
		}
		if err := start(ctx, plane, m, images); err != nil {
			return fmt.Errorf("start %s: %w", m.Name, err)
		}
	}
	if err := writeJSON(c.nodesPath(), members); err != nil {
		return err
	}
	return c.waitNodes(ctx, plane, members)
}

// makeNetwork makes the bridge that all nodes are connected to. It has the service address of the API server too, which pods so reach
// with no proxy.
func makeNetwork() error {
	err := ip(
		[]string{"link", "set", "lo", "up"},
		[]string{"link", "add", bridge, "type", "bridge"},
		[]string{"address", "add", gateway + "/24", "dev", bridge},
		[]string{"address", "add", control.ServiceAddress + "/32", "dev", bridge},
		[]string{"link", "set", bridge, "up"},
	)
	if err != nil {
		return err
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
}

func ip(commands ...[]string) error {
	for _, args := range commands {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("set up the network: ip %v: %w: %s", args, err, out)
		}
	}
	return nil
}

// serveDoor passes connections that come in at this machine's loopback address on to the API server.
func serveDoor(door net.Listener) {
	for {
		outside, err := door.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "the API server's local port:", err)
			return
		}
		go func() {
			defer outside.Close()
			inside, err := net.Dial("tcp", gateway+":443")
			if err != nil {
				return // the API server is away: what clients of one see
			}
			defer inside.Close()
			done := make(chan struct{}, 2)
			for _, ends := range [][2]net.Conn{{outside, inside}, {inside, outside}} {
				go func() {
					_, _ = io.Copy(ends[0], ends[1]) // how it ended is for the two to see
					done <- struct{}{}
				}()
			}
			<-done
		}()
	}
}

// waitNodes returns once all nodes are Ready.
func (c Config) waitNodes(ctx context.Context, plane *control.Plane, members []*member) error {
	ctx, cancel := context.WithTimeoutCause(ctx, nodesLimit, fmt.Errorf("not Ready after %s", nodesLimit))
	defer cancel()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		waiting, err := notReady(ctx, plane, members)
		if err != nil {
			return err
		}
		if len(waiting) == 0 {
			return nil
		}
		for _, m := range members {
			select {
			case <-m.ended:
				return fmt.Errorf("%s has ended; %s says why", m.Name, c.nodeLog(m))
			default:
			}
		}
		if err := plane.Failed(); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("nodes %q: %w; the logs are in %s", waiting, context.Cause(ctx), c.logs())
		}
	}
}

// notReady names the nodes that aren't Ready.
func notReady(ctx context.Context, plane *control.Plane, members []*member) ([]string, error) {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Conditions []struct{ Type, Status string }
			}
		}
	}
	if err := plane.Call(ctx, http.MethodGet, "/api/v1/nodes", nil, &list); err != nil {
		return nil, err
	}
	ready := map[string]bool{}
	for _, item := range list.Items {
		for _, condition := range item.Status.Conditions {
			if condition.Type == "Ready" && condition.Status == "True" {
				ready[item.Metadata.Name] = true
			}
		}
	}
	var waiting []string
	for _, m := range members {
		if !ready[m.Name] {
			waiting = append(waiting, m.Name)
		}
	}
	return waiting, nil
}
