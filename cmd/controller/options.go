package controller

import (
	"errors"
	"fmt"
	"net"

	"github.com/spf13/pflag"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/linux/socket"
)

// Options say how the controller runs.
type Options struct {
	parts.API
	// Endpoint to serve CSI on for the sidecars: unix:///PATH.
	Endpoint string
	// Identity tells this controller from the others that stand for election.
	Identity string
	// HealthAddress and MetricsAddress (HOST:PORT); empty is not served.
	HealthAddress, MetricsAddress string
	// Version to report.
	Version string
}

// AddFlags adds the options' flags to a set.
func (o *Options) AddFlags(f *pflag.FlagSet) {
	o.API.AddFlags(f, "leader-election-namespace")
	f.StringVar(&o.Endpoint, "endpoint", o.Endpoint, "where CSI is served for the sidecars: unix:///PATH (required; the default is $CSI_ENDPOINT)")
	f.StringVar(&o.Identity, "identity", o.Identity, "name of this controller in elections (required; the default is $POD_NAME, else the host's name)")
	f.StringVar(&o.HealthAddress, "health-address", "", "HOST:PORT to serve /healthz and /readyz on; not served where it is not given")
	f.StringVar(&o.MetricsAddress, "metrics-address", "", "HOST:PORT to serve Prometheus metrics on; not served where it is not given")
}

// Validate checks the options; the error names each flag that is wrong and says what is allowed.
func (o *Options) Validate() error {
	var errs []error
	if _, err := socket.Path(o.Endpoint); err != nil {
		errs = append(errs, fmt.Errorf("--endpoint: %w", err))
	}
	if o.Namespace == "" {
		errs = append(errs, errors.New("--leader-election-namespace is missing: the namespace that the driver runs in"))
	}
	if o.Identity == "" {
		errs = append(errs, errors.New("--identity is missing: a name that no other controller has"))
	}
	for flag, address := range map[string]string{"health": o.HealthAddress, "metrics": o.MetricsAddress} {
		if _, _, err := net.SplitHostPort(address); address != "" && err != nil {
			errs = append(errs, fmt.Errorf("--%s-address %q is not HOST:PORT: %w", flag, address, err))
		}
	}
	return errors.Join(errs...)
}
