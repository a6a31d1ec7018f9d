package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/pflag"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
)

const (
	// Path of the report at the driver's address for metrics.
	Path = "/status"
	// patience bounds a driver that does not answer.
	patience = 30 * time.Second
	// maxReport bounds a report in bytes.
	maxReport = 256 << 20
)

// Options say which driver is asked.
type Options struct {
	// Address is the driver's --metrics-address.
	Address string
	// Format is "table" or "json".
	Format string
	Out    io.Writer
	Now    func() time.Time
}

// AddFlags adds the options' flags to a set.
func (o *Options) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.Address, "metrics-address", "", "HOST:PORT that the driver serves its metrics on (required)")
	parts.AddFormat(f, &o.Format)
}

// Validate checks the options; the error names each flag that is wrong and says what is allowed.
func (o *Options) Validate() error {
	var address error
	if o.Address == "" {
		address = errors.New("--metrics-address is missing: give the one that the driver was started with")
	} else if _, _, err := net.SplitHostPort(o.Address); err != nil {
		address = fmt.Errorf("--metrics-address %q is not HOST:PORT: %w", o.Address, err)
	}
	return errors.Join(address, parts.CheckFormat(o.Format))
}

// Run asks a running driver for its report and prints it.
func Run(ctx context.Context, o Options) error {
	if err := o.Validate(); err != nil {
		return err
	}
	r, err := ask(ctx, o.Address)
	if err != nil {
		return fmt.Errorf("ask the driver at %s: %w; is it running, with that --metrics-address?", o.Address, err)
	}
	return r.write(o.Out, o.Format, o.Now())
}

func ask(ctx context.Context, address string) (r Report, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+Path, nil)
	if err != nil {
		return r, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	if answer.StatusCode != http.StatusOK {
		return r, fmt.Errorf("it answers %s", answer.Status)
	}
	return r, json.NewDecoder(io.LimitReader(answer.Body, maxReport)).Decode(&r)
}

// Handler serves the reports that make makes.
func Handler(make func(context.Context) (Report, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r, err := make(q.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(r) // whoever asked is gone
	})
}
