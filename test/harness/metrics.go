package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// freeAddress finds a port that nobody listens on, on a loopback address that hardly anybody else will think of until it is
// used.
func freeAddress() (string, error) {
	address := fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// MetricsAddress is where a driver that was started with metrics serves them.
func (d *Driver) MetricsAddress() string { return d.metrics }

// Metrics reads all metrics of a driver that was started with them, by name.
func (d *Driver) Metrics(ctx context.Context) (map[string]*dto.MetricFamily, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.metrics+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	return families, errors.Join(err, answer.Body.Close())
}

// Gauge reads one figure of a datastore: Gauge(ctx, "provisioned_bytes", "fast").
func (d *Driver) Gauge(ctx context.Context, name, datastore string) (float64, error) {
	families, err := d.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	name = "datastore_csi_datastore_" + name
	for _, m := range families[name].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "datastore" && l.GetValue() == datastore {
				return m.GetGauge().GetValue(), nil
			}
		}
	}
	return 0, fmt.Errorf("no metric %s{datastore=%q}", name, datastore)
}

// Footprint is what the driver's process holds at the moment.
type Footprint struct{ Threads, Descriptors, Children int }

// Footprint counts the driver's threads, descriptors and children.
func (d *Driver) Footprint() (Footprint, error) {
	proc := filepath.Join("/proc", strconv.Itoa(d.PID()))
	threads, err := os.ReadDir(filepath.Join(proc, "task"))
	if err != nil {
		return Footprint{}, err
	}
	descriptors, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return Footprint{}, err
	}
	children, err := children(d.PID())
	return Footprint{Threads: len(threads), Descriptors: len(descriptors), Children: children}, err
}

// children counts the processes whose parent is pid.
func children(pid int) (int, error) {
	lists, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "children"))
	if err != nil {
		return 0, err
	}
	n := 0
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if errors.Is(err, os.ErrNotExist) {
			continue // a thread that ended meanwhile
		}
		if err != nil {
			return 0, err
		}
		for _, c := range text {
			if c == ' ' {
				n++
			}
		}
	}
	return n, nil
}

// Goroutines counts the driver's goroutines, as its Go runtime's collector tells.
func (d *Driver) Goroutines(ctx context.Context) (int, error) {
	families, err := d.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	m := families["go_goroutines"].GetMetric()
	if len(m) != 1 {
		return 0, errors.New("no metric go_goroutines")
	}
	return int(m[0].GetGauge().GetValue()), nil
}
