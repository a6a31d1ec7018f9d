package measure

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// orphanCollector counts the orphans of this host's pools when it is asked for them.
type orphanCollector struct {
	pools        func() map[string]v1alpha1.PoolStatus
	count, bytes *prometheus.Desc
}

func newOrphanCollector(pools func() map[string]v1alpha1.PoolStatus) *orphanCollector {
	labels := []string{"datastore", "kind"}
	return &orphanCollector{
		pools: pools,
		count: prometheus.NewDesc(namespace+"_orphans", "Volumes and snapshots without a record (NoRecord), without storage (NoStorage), or that nobody can tell (Unclear).", labels, nil),
		bytes: prometheus.NewDesc(namespace+"_orphans_bytes", "Bytes that orphans take, or were to take.", labels, nil),
	}
}

// Describe implements prometheus.Collector.
func (o *orphanCollector) Describe(out chan<- *prometheus.Desc) {
	out <- o.count
	out <- o.bytes
}

// Collect implements prometheus.Collector.
func (o *orphanCollector) Collect(out chan<- prometheus.Metric) {
	for name, pool := range o.pools() {
		for _, kind := range []v1alpha1.OrphanKind{v1alpha1.NoRecord, v1alpha1.NoStorage, v1alpha1.Unclear} {
			var count, bytes int64
			for _, orphan := range pool.Orphans {
				if orphan.Kind == kind {
					count++
					bytes += orphan.Size.Value()
				}
			}
			out <- prometheus.MustNewConstMetric(o.count, prometheus.GaugeValue, float64(count), name, string(kind))
			out <- prometheus.MustNewConstMetric(o.bytes, prometheus.GaugeValue, float64(bytes), name, string(kind))
		}
	}
}
