package orphans

import (
	"errors"
	"io"
	"time"

	"github.com/spf13/pflag"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
)

// Options say what is listed.
type Options struct {
	// Datastores is the file of Datastore documents, StateDir the driver's.
	Datastores, StateDir string
	// Format is "table" or "json".
	Format string
	Out    io.Writer
	Now    func() time.Time
}

// AddFlags adds the options' flags to a set.
func (o *Options) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.Datastores, "datastores", "", "file of Datastore documents (required)")
	f.StringVar(&o.StateDir, "state-dir", "", "the driver's directory of records (required)")
	parts.AddFormat(f, &o.Format)
}

// Validate checks the options; the error names each flag that is wrong and says what is allowed.
func (o *Options) Validate() error {
	return errors.Join(
		parts.Absolute("--datastores", &o.Datastores), parts.Absolute("--state-dir", &o.StateDir), parts.CheckFormat(o.Format))
}
