package standalone

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/linux/socket"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// maxVolumesBound is what can be said in NodeGetInfo and is still counted.
const maxVolumesBound = 1 << 20

// Options say how the driver runs without Kubernetes.
type Options struct {
	// Endpoint to serve CSI on: unix:///PATH.
	Endpoint string
	// Datastores is the file of Datastore documents.
	Datastores string
	// StateDir holds the records and the stage records. It is made where it is missing.
	StateDir string
	// MountDir is where the driver mounts the file systems of datastores itself.
	MountDir string
	// Host is this machine's name among the hosts: CSI's node ID.
	Host string
	// ClusterID marks volumes as ours; empty means the one that the state dir holds, or a new one.
	ClusterID string
	// MaxVolumesPerNode may be published at a time; 0 is no bound.
	MaxVolumesPerNode int64
	// MetricsAddress to serve Prometheus metrics and the status on (HOST:PORT); empty means not at all.
	MetricsAddress string
	// Version to report.
	Version string
	// Hook stands in the context of all work. It has no flag: only tests set it.
	Hook step.Hook
}

// AddFlags adds the options' flags to a set.
func (o *Options) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.Endpoint, "endpoint", o.Endpoint, "where CSI is served: unix:///PATH (required; the default is $CSI_ENDPOINT)")
	f.StringVar(&o.Datastores, "datastores", "", "file of Datastore documents, reloaded when it changes (required)")
	f.StringVar(&o.StateDir, "state-dir", "", "directory for the driver's records, on a disk of this host (required)")
	f.StringVar(&o.MountDir, "mount-dir", parts.DefaultMountDir, "directory in which the driver mounts the file systems of datastores")
	f.StringVar(&o.Host, "host", "", "this host's name, CSI's node ID (required)")
	f.StringVar(&o.ClusterID, "cluster-id", "", "ID that marks the volumes as this cluster's; made once and kept where it is not given")
	f.Int64Var(&o.MaxVolumesPerNode, "max-volumes-per-node", 0, "how many volumes may be published here at a time; 0 is no bound")
	f.StringVar(&o.MetricsAddress, "metrics-address", "", "HOST:PORT to serve Prometheus metrics and the status on; not served where it is not given")
}

// Validate checks the options; the error names each flag that is wrong and says what is allowed.
func (o *Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Endpoint == "" {
		bad("--endpoint is missing, such as unix:///run/datastore-csi.sock")
	} else if _, err := socket.Path(o.Endpoint); err != nil {
		bad("--endpoint: %w", err)
	}
	if o.Datastores == "" {
		bad("--datastores is missing: a file of Datastore documents")
	}
	if o.StateDir == "" {
		bad("--state-dir is missing: a directory for the driver's records")
	}
	if o.MountDir == "" {
		bad("--mount-dir is empty: a directory that is gone with the next boot, such as %s", parts.DefaultMountDir)
	}
	if o.Host == "" {
		bad("--host is missing: this host's name")
	} else if msgs := validation.IsDNS1123Subdomain(o.Host); len(msgs) > 0 {
		bad("--host %q: %s", o.Host, msgs[0])
	}
	if o.ClusterID != "" {
		if msgs := validation.IsValidLabelValue(o.ClusterID); len(msgs) > 0 {
			bad("--cluster-id %q: %s", o.ClusterID, msgs[0])
		}
	}
	if o.MaxVolumesPerNode < 0 || o.MaxVolumesPerNode > maxVolumesBound {
		bad("--max-volumes-per-node %d: from 0 (no bound) to %d are allowed", o.MaxVolumesPerNode, maxVolumesBound)
	}
	if o.MetricsAddress != "" {
		if _, _, err := net.SplitHostPort(o.MetricsAddress); err != nil {
			bad("--metrics-address %q is not HOST:PORT: %w", o.MetricsAddress, err)
		}
	}
	return errors.Join(errs...)
}

// absolute makes the paths independent of the working directory.
func (o *Options) absolute() error {
	for _, p := range []*string{&o.Datastores, &o.StateDir, &o.MountDir} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	return nil
}
