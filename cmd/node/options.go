package node

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/linux/container"
)

const (
	// maxVolumesBound is what can be said in NodeGetInfo and is still counted.
	maxVolumesBound = 1 << 20
	// kubeletDir is the kubelet's own default.
	kubeletDir = "/var/lib/kubelet"
)

// Options say how a host of the cluster runs.
type Options struct {
	parts.API
	// Host is this machine's name among the hosts: the Node's, where there is one.
	Host string
	// StateDir holds the stage records, on a disk of the host; MountDir what datastores mount.
	StateDir, MountDir string
	// Kubelet tells that this host has one, which CSI is served to; KubeletDir is its root directory, empty where it is to be found.
	Kubelet    bool
	KubeletDir string
	// MaxVolumesPerNode may be published at a time; 0 is no bound.
	MaxVolumesPerNode int64
	// HealthAddress and MetricsAddress (HOST:PORT); empty is not served.
	HealthAddress, MetricsAddress string
	// Container is the one that this process came from; nil on a host itself.
	Container *container.Container
	// Version to report.
	Version string
}

// AddFlags adds the flags of a host without a kubelet to a set.
func (o *Options) AddFlags(f *pflag.FlagSet) {
	o.API.AddFlags(f, "namespace")
	f.StringVar(&o.Host, "node-name", "", "this host's name, on a node the Node's (required)")
	f.StringVar(&o.StateDir, "state-dir", "/var/lib/datastore-csi", "directory for what this host must remember, on a disk of this host")
	f.StringVar(&o.MountDir, "mount-dir", parts.DefaultMountDir, "directory for the mounts of datastores")
	f.StringVar(&o.HealthAddress, "health-address", "", "HOST:PORT to serve /healthz and /readyz on; not served where it is not given")
	f.StringVar(&o.MetricsAddress, "metrics-address", "", "HOST:PORT to serve Prometheus metrics on; not served where it is not given")
}

// AddNodeFlags adds those of a node, which has a kubelet.
func (o *Options) AddNodeFlags(f *pflag.FlagSet) {
	f.StringVar(&o.KubeletDir, "kubelet-dir", "",
		"the kubelet's root directory; where it is not given: "+kubeletDir+", and from within a pod that of the pod's kubelet")
	f.Int64Var(&o.MaxVolumesPerNode, "max-volumes-per-node", 0, "how many volumes may be published here at a time; 0 is no bound")
}

// Validate checks the options; the error names each flag that is wrong and says what is allowed.
func (o *Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Namespace == "" {
		bad("--namespace is missing: the namespace that the driver runs in")
	}
	if o.Host == "" {
		bad("--node-name is missing: this host's name")
	} else if msgs := validation.IsDNS1123Subdomain(o.Host); len(msgs) > 0 {
		bad("--node-name %q: %s", o.Host, msgs[0])
	}
	for flag, path := range map[string]string{"state-dir": o.StateDir, "mount-dir": o.MountDir, "kubelet-dir": o.KubeletDir} {
		if (path != "" || flag == "state-dir") && !filepath.IsAbs(path) {
			bad("--%s %q is not an absolute path", flag, path)
		}
	}
	if o.MaxVolumesPerNode < 0 || o.MaxVolumesPerNode > maxVolumesBound {
		bad("--max-volumes-per-node %d: from 0 (no bound) to %d are allowed", o.MaxVolumesPerNode, maxVolumesBound)
	}
	for flag, address := range map[string]string{"health": o.HealthAddress, "metrics": o.MetricsAddress} {
		if _, _, err := net.SplitHostPort(address); address != "" && err != nil {
			bad("--%s-address %q is not HOST:PORT: %w", flag, address, err)
		}
	}
	return errors.Join(errs...)
}
