package recover

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Options say what is recovered.
type Options struct {
	// Datastores is the file of Datastore documents.
	Datastores string
	// StateDir is the driver's, empty or with some records left.
	StateDir string
	// MountDir is where the driver mounts the file systems of datastores itself.
	MountDir string
	// ClusterID that the pools bear.
	ClusterID string
	// Host is this machine's name among the hosts; empty means the one that made the pools.
	Host string
	// Apply writes the records; otherwise they are only shown.
	Apply bool
	Out   io.Writer
	// Hook stands in the context of all work. It has no flag: only tests set it.
	Hook step.Hook
}

// AddFlags adds the options' flags to a set.
func (o *Options) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.Datastores, "datastores", "", "file of Datastore documents (required)")
	f.StringVar(&o.StateDir, "state-dir", "", "the driver's directory of records, empty or with some left (required)")
	f.StringVar(&o.MountDir, "mount-dir", parts.DefaultMountDir, "the driver's directory for the mounts of datastores")
	f.StringVar(&o.ClusterID, "cluster-id", "", "ID of the cluster whose volumes are recovered (required)")
	f.StringVar(&o.Host, "host", "", "this host's name, as the driver is started with; the one that made the pools where it is not given")
	f.BoolVar(&o.Apply, "apply", false, "write the records; without it they are only shown")
}

// Validate checks the options; the error names each flag that is wrong and says what is allowed.
func (o *Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	errs = append(errs, parts.Absolute("--datastores", &o.Datastores), parts.Absolute("--state-dir", &o.StateDir), parts.Absolute("--mount-dir", &o.MountDir))
	if o.ClusterID == "" {
		bad("--cluster-id is missing: the pools' markers (.datastore-csi/pool.json) name it")
	} else if msgs := validation.IsValidLabelValue(o.ClusterID); len(msgs) > 0 {
		bad("--cluster-id %q: %s", o.ClusterID, msgs[0])
	}
	if o.Host != "" {
		if msgs := validation.IsDNS1123Subdomain(o.Host); len(msgs) > 0 {
			bad("--host %q: %s", o.Host, msgs[0])
		}
	}
	return errors.Join(errs...)
}
