package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

// Config of a cluster.
type Config struct {
	// Dir is the folder of everything that the cluster keeps. Its file system must be one that overlayfs may write to.
	Dir string
	// Name tells the cluster from others on this machine: a DNS label.
	Name string
	// Nodes is how many there are on this machine's kernel, named node1 and so on; Machines how many in machines of the test
	// bed (test/testbed), whose kernel has what this one may lack, named and numbered after them. At most 99 in all.
	Nodes, Machines int
	// Sidecars has the images of CSI's sidecars imported too, under the names that they have in their registry.
	Sidecars bool
	// Images are files with further images that each node imports.
	Images []string

	// What Up found and Run needs: the folder of Kubernetes' programs, the cluster's own program, and the test bed's.
	Kubernetes, Program, Launcher string
	// LocalPort is the API server's at 127.0.0.1.
	LocalPort int
}

// The cluster's network. Node n has the address n+10, and the addresses of its pods in 10.78.n+10.0/24.
const (
	gateway   = "10.77.0.1"
	firstNode = 11
	maxNodes  = 99
	bridge    = "bridge0"
)

var label = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$`)

func (c Config) validate() error {
	var errs []error
	if !filepath.IsAbs(c.Dir) {
		errs = append(errs, fmt.Errorf("folder %q: want an absolute path", c.Dir))
	}
	if !label.MatchString(c.Name) {
		errs = append(errs, fmt.Errorf("cluster name %q: want a DNS label of at most 32 characters", c.Name))
	}
	if c.Nodes < 0 || c.Machines < 0 || c.Nodes+c.Machines > maxNodes {
		errs = append(errs, fmt.Errorf("%d nodes here and %d in machines: want 0 to %d", c.Nodes, c.Machines, maxNodes))
	}
	return errors.Join(errs...)
}

// member is one node of the cluster.
type member struct {
	Name string
	// Index is the last part of its address.
	Index int
	// Machine tells that it has a kernel of its own.
	Machine bool
	// PID of the first process of a node without, as the cluster sees it.
	PID int

	ended chan struct{} // closed once the node has
}

func (c Config) members() []*member {
	var all []*member
	for i := range c.Nodes + c.Machines {
		all = append(all, &member{
			Name: "node" + strconv.Itoa(i+1), Index: firstNode + i, Machine: i >= c.Nodes, ended: make(chan struct{}),
		})
	}
	return all
}

func (m *member) address() netip.Addr {
	return netip.AddrFrom4([4]byte{10, 77, 0, byte(m.Index)})
}

func (m *member) pods() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 78, byte(m.Index), 0}), 24)
}

// cgroup is the node's own, beneath each hierarchy.
func (c Config) cgroup(m *member) string { return "/datastore-csi-" + c.Name + "/" + m.Name }

// Paths beneath a cluster's folder.
func (c Config) path(parts ...string) string {
	return filepath.Join(append([]string{c.Dir}, parts...)...)
}

func (c Config) logs() string       { return c.path("control", "log") }
func (c Config) configPath() string { return c.path("config.json") }
func (c Config) statePath() string  { return c.path("state.json") }
func (c Config) nodesPath() string  { return c.path("nodes.json") }

// nodeLog is what a node's first process says.
func (c Config) nodeLog(m *member) string { return filepath.Join(c.logs(), m.Name+".log") }

// Kubeconfig is the path of a kubeconfig for this machine that may do everything.
func (c Config) Kubeconfig() string { return c.path("kubeconfig") }

func writeJSON(path string, content any) error {
	text, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func readJSON(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
