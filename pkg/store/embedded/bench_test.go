package embedded_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/embedded"
)

// volume is a record of the size that a volume in use has.
func volume(name string) *v1alpha1.DatastoreVolume {
	return &v1alpha1.DatastoreVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Finalizers: []string{v1alpha1.Finalizer},
			Labels: map[string]string{"datastore-csi.io/pvc-name": "data-db-0", "datastore-csi.io/pvc-namespace": "production"},
		},
		Spec: v1alpha1.DatastoreVolumeSpec{
			Name: name, Datastore: "fast", ClusterID: "f3b9c4de-2d0c-4a10-9a5c-0a7a8cbb1f11",
			Size: resource.MustParse("10Gi"), Provisioning: v1alpha1.Thin, Format: v1alpha1.FormatImage,
			Access:      v1alpha1.VolumeAccess{Type: v1alpha1.Filesystem, Modes: []string{"SINGLE_NODE_WRITER"}},
			Filesystem:  &v1alpha1.FilesystemSpec{Type: "ext4", UUID: "5bd9c7e2-26f8-4df6-96d5-0c3f2d2f0f6a"},
			Parameters:  map[string]string{"datastore": "fast", "provisioning": "thin"},
			Worker:      v1alpha1.Worker{Host: "node-1"},
			Attachments: map[string]v1alpha1.Attachment{"node-1": {Access: "SINGLE_NODE_WRITER", Generation: 2}},
		},
		Status: v1alpha1.DatastoreVolumeStatus{
			Worker: v1alpha1.WorkerStatus{
				ObservedGeneration: 2, Phase: v1alpha1.Ready, Size: resource.MustParse("10Gi"),
				Location: name + "-0a1b2c3d", Identity: "9b0f4b7c-7d0c-4d5e-8a3f-1f2e3d4c5b6a",
			},
			Nodes: map[string]v1alpha1.NodeStatus{"node-1": {Identity: "9b0f4b7c", BootID: "52c4dc1e-b1ad-4b68-8cd4-25a2f5d6d5d3"}},
		},
	}
}

func volumeName(i int) string {
	return fmt.Sprintf("pvc-3f0c1d7e-8a52-4a0b-9e0e-%012d", i*7919%1000003)
}

// fill creates volumes, many at once.
func fill(tb testing.TB, db *embedded.DB, n int) {
	tb.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				if _, err := db.Store().Volumes.Create(tb.Context(), volume(volumeName(i))); err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkWrites(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("%d callers", callers), func(b *testing.B) {
			db := open(b, config(newPath(b)))
			defer func() { _ = db.Close() }()
			fill(b, db, 1000)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for c := range callers {
				wg.Go(func() {
					name := volumeName(c + 1)
					for next.Add(1) <= int64(b.N) {
						_, err := store.ChangeStatus(b.Context(), db.Store().Volumes, name, func(v *v1alpha1.DatastoreVolume) error {
							v.Status.Worker.ObservedGeneration++
							return nil
						})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
		})
	}
}

func BenchmarkWith10000Volumes(b *testing.B) {
	path := newPath(b)
	db := open(b, config(path))
	fill(b, db, 10000)
	table := db.Store().Volumes
	b.Run("Get", func(b *testing.B) {
		for i := range b.N {
			if _, err := table.Get(b.Context(), volumeName(i%10000+1)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("List", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if all, err := table.List(b.Context()); err != nil || len(all) != 10000 {
				b.Fatal(len(all), err)
			}
		}
	})
	b.Run("write with 10000 waiters", func(b *testing.B) {
		for i := range 10000 {
			w, err := table.Watch(b.Context(), volumeName(i+1))
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
		}
		b.ResetTimer()
		for i := range b.N {
			_, err := store.ChangeStatus(b.Context(), table, volumeName(i%10000+1), func(v *v1alpha1.DatastoreVolume) error {
				v.Status.Worker.ObservedGeneration++
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	b.Run("Open", func(b *testing.B) {
		for range b.N {
			db, err := embedded.Open(context.Background(), config(path))
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			_ = db.Close()
			b.StartTimer()
		}
	})
}

// BenchmarkMemory tells what 10,000 open volumes take.
func BenchmarkMemory(b *testing.B) {
	path := newPath(b)
	db := open(b, config(path))
	fill(b, db, 10000)
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	for range b.N {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		db := open(b, config(path))
		_ = rssAnon(b)
		start := time.Now()
		runtime.GC()
		gc := time.Since(start)
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1024/1024, "MiB-heap")
		b.ReportMetric(float64(gc.Milliseconds()), "ms-gc")
		b.ReportMetric(rssAnon(b), "MiB-rss")
		info, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(info.Size())/1024/1024, "MiB-file")
		_ = db.Close()
	}
}

func rssAnon(tb testing.TB) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "RssAnon: %f kB", &kib); n == 1 {
			return kib / 1024
		}
	}
	tb.Fatal("no RssAnon")
	return 0
}
