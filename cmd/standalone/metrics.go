package standalone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/cmd/status"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
)

const (
	namespace = "datastore_csi"
	// headerTimeout bounds a client that connects and says nothing.
	headerTimeout = 5 * time.Second
)

// buckets in seconds: from a read of a record to the patience of a caller.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// metrics are the driver's, in a registry of their own.
type metrics struct {
	registry  *prometheus.Registry
	rpcs      *prometheus.HistogramVec
	works     *prometheus.HistogramVec
	failures  *prometheus.CounterVec
	commands  *prometheus.HistogramVec
	documents prometheus.Gauge
}

func newMetrics() *metrics {
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	}
	m := &metrics{
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
	m.registry.MustRegister(m.rpcs, m.works, m.failures, m.commands, m.documents,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) rpc(method, code string, took time.Duration) {
	m.rpcs.WithLabelValues(method, code).Observe(took.Seconds())
}

func (m *metrics) work(operation, result string, took time.Duration) {
	m.works.WithLabelValues(operation, result).Observe(took.Seconds())
	if result != "ok" {
		m.failures.WithLabelValues(operation, result).Inc()
	}
}

func (m *metrics) command(tool, result string, took time.Duration) {
	m.commands.WithLabelValues(tool, result).Observe(took.Seconds())
}

func (m *metrics) documentsValid(valid bool) {
	m.documents.Set(0)
	if valid {
		m.documents.Set(1)
	}
}

// serveMetrics serves the metrics until ctx ends, if they are wanted.
func (s *service) serveMetrics(ctx context.Context, group *errgroup.Group) error {
	s.metrics.registry.MustRegister(newDatastoreCollector(s.controller), newOrphanCollector(s.set.Statuses), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "agent_queue_length", Help: "Volumes, snapshots and pools that wait for the agent, are worked on, or are tried again later.",
	}, func() float64 { return float64(s.agent.QueueLength()) }))
	if s.options.MetricsAddress == "" {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.options.MetricsAddress)
	if err != nil {
		return fmt.Errorf("--metrics-address %s: %w; give another one", s.options.MetricsAddress, err)
	}
	mux := http.NewServeMux()
	mux.Handle(status.Path, status.Handler(s.report))
	mux.Handle("/metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	group.Go(func() error {
		klog.FromContext(ctx).Info("Serving metrics", "address", l.Addr().String())
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}

// report is what the driver says of itself to the administrator.
func (s *service) report(ctx context.Context) (status.Report, error) {
	overview, err := s.controller.Overview(ctx)
	if err != nil {
		return status.Report{}, err
	}
	r, err := status.Make(ctx, s.store, overview, s.set.Statuses())
	r.Version, r.Host, r.ClusterID = s.options.Version, s.options.Host, s.db.ClusterID()
	return r, err
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
