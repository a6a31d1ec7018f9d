// Package measure holds the metrics of the driver's roles, and what keeps their memory small.
package measure

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
)

const (
	namespace = "datastore_csi"
	// headerTimeout bounds a client that connects and says nothing.
	headerTimeout = 5 * time.Second
)

// buckets in seconds: from a read of a record to the patience of a caller.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// Metrics are the driver's, in a registry of their own.
type Metrics struct {
	registry  *prometheus.Registry
	rpcs      *prometheus.HistogramVec
	works     *prometheus.HistogramVec
	failures  *prometheus.CounterVec
	commands  *prometheus.HistogramVec
	documents prometheus.Gauge
	// file registers the gauge with its first value: only a driver with a file has it.
	file sync.Once
}

// New returns metrics of which nothing is measured yet.
func New() *Metrics {
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		rpcs:     histogram("rpc_duration_seconds", "CSI calls, by method and the gRPC code that they ended with.", "method", "code"),
		works:    histogram("agent_work_duration_seconds", "The agent's work on storage, by operation and result.", "operation", "result"),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "agent_failures_total", Help: "The agent's work that failed, by operation and kind of fault.",
		}, []string{"operation", "reason"}),
		commands: histogram("command_duration_seconds", "Tools that were run, by tool and result.", "tool", "result"),
		documents: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "datastores_file_valid", Help: "1 where the datastores' file that was read last is in force, 0 where it is not valid.",
		}),
	}
	m.registry.MustRegister(m.rpcs, m.works, m.failures, m.commands,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// RPC counts a call.
func (m *Metrics) RPC(method, code string, took time.Duration) {
	m.rpcs.WithLabelValues(method, code).Observe(took.Seconds())
}

// Work counts a piece of the agent's work.
func (m *Metrics) Work(operation, result string, took time.Duration) {
	m.works.WithLabelValues(operation, result).Observe(took.Seconds())
	if result != "ok" {
		m.failures.WithLabelValues(operation, result).Inc()
	}
}

// Command counts a tool that was run.
func (m *Metrics) Command(tool, result string, took time.Duration) {
	m.commands.WithLabelValues(tool, result).Observe(took.Seconds())
}

// DocumentsValid tells whether the datastores' file that was read last is in force.
func (m *Metrics) DocumentsValid(valid bool) {
	m.file.Do(func() { m.registry.MustRegister(m.documents) })
	m.documents.Set(0)
	if valid {
		m.documents.Set(1)
	}
}

// Serve serves the metrics, and what else there is by its path, at an address until ctx ends; "" is not at all.
func (m *Metrics) Serve(ctx context.Context, group *errgroup.Group, address string, more map[string]http.Handler) error {
	if address == "" {
		return nil
	}
	mux := http.NewServeMux()
	for path, handler := range more {
		mux.Handle(path, handler)
	}
	mux.Handle("/metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	return Listen(ctx, group, "--metrics-address", address, mux)
}

// Listen serves HTTP at the address that a flag gives, until ctx ends.
func Listen(ctx context.Context, group *errgroup.Group, flag, address string, handler http.Handler) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("%s %s: %w; give another one", flag, address, err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout}
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	group.Go(func() error {
		klog.FromContext(ctx).Info("Serving HTTP", "flag", flag, "address", l.Addr().String())
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}

// Datastores has the metrics tell of every datastore as a controller sees it.
func (m *Metrics) Datastores(c *controller.Controller) {
	m.registry.MustRegister(newDatastoreCollector(c))
}

// Agent has the metrics tell of the pools of this host and the work that waits for its agent.
func (m *Metrics) Agent(pools func() map[string]v1alpha1.PoolStatus, queued func() int) {
	m.registry.MustRegister(newOrphanCollector(pools), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "agent_queue_length", Help: "Volumes, snapshots and pools that wait for the agent, are worked on, or are tried again later.",
	}, func() float64 { return float64(queued()) }))
}

// datastoreCollector reads the datastores' figures when they are asked for.
type datastoreCollector struct {
	controller                                           *controller.Controller
	total, used, available, provisioned, volumes, health *prometheus.Desc
}

func newDatastoreCollector(c *controller.Controller) *datastoreCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(namespace+"_datastore_"+name, help, append([]string{"datastore"}, labels...), nil)
	}
	return &datastoreCollector{
		controller:  c,
		total:       desc("total_bytes", "Bytes of the datastore's pools."),
		used:        desc("used_bytes", "Bytes in use on the datastore's pools, by whomever."),
		available:   desc("available_bytes", "Bytes that can still be promised to volumes."),
		provisioned: desc("provisioned_bytes", "Bytes that are promised to volumes."),
		volumes:     desc("volumes", "Volumes on the datastore."),
		health:      desc("health", "0 Healthy, 1 Warning, 2 Critical, 3 Unavailable."),
	}
}

// Describe implements prometheus.Collector.
func (d *datastoreCollector) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{d.total, d.used, d.available, d.provisioned, d.volumes, d.health} {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (d *datastoreCollector) Collect(out chan<- prometheus.Metric) {
	// The interface gives no context; the records are in memory.
	all, err := d.controller.Overview(context.Background())
	if err != nil {
		out <- prometheus.NewInvalidMetric(d.health, err)
		return
	}
	for _, s := range all {
		for desc, value := range map[*prometheus.Desc]int64{
			d.total: s.Status.Total.Value(), d.used: s.Status.Used.Value(), d.available: s.Status.Available.Value(),
			d.provisioned: s.Status.Provisioned.Value(), d.volumes: int64(s.Status.Volumes), d.health: int64(s.Status.Health.Severity()),
		} {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), s.Name)
		}
	}
}
