package directory_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
)

// BenchmarkCreate is a pool's Create beside the calls without which nobody can make such a volume durable:
// make a folder with an image and a mark, sync both, rename the folder, sync where it went; with ext4,
// mke2fs in between. The pool is on the file system of the temporary folder.
func BenchmarkCreate(b *testing.B) {
	const size = gib
	for _, fs := range []string{"", "ext4"} {
		b.Run("bare/"+fs, func(b *testing.B) {
			path := b.TempDir()
			must(b, errors.Join(os.Mkdir(path+"/tmp", 0o700), os.Mkdir(path+"/volumes", 0o700)))
			for i := 0; b.Loop(); i++ {
				bare(b, path, fmt.Sprintf("pvc-%d", i), fs, size)
			}
		})
		b.Run("pool/"+fs, func(b *testing.B) {
			p := newPool(b, b.TempDir())
			for i := 0; b.Loop(); i++ {
				v := thin(fmt.Sprintf("pvc-%d", i), size)
				if fs != "" {
					v = formatted(v, fs)
				}
				create(b, p, v)
			}
		})
	}
}

func bare(b *testing.B, path, name, fs string, size int64) {
	dir := filepath.Join(path, "tmp", name)
	must(b, os.Mkdir(dir, 0o700))
	image, err := os.Create(filepath.Join(dir, "disk.img"))
	must(b, err)
	must(b, image.Truncate(size))
	if fs != "" {
		run(b, "mke2fs", "-q", "-t", fs, "-E", "nodiscard,lazy_itable_init=0,assume_storage_prezeroed=1", "-U", uuid.NewString(), image.Name())
	}
	mark, err := os.Create(filepath.Join(dir, "meta.json"))
	must(b, err)
	_, err = mark.Write(pattern(500))
	must(b, errors.Join(err, mark.Sync(), mark.Close(), image.Sync(), image.Close()))
	syncDir(b, dir)
	must(b, unix.Rename(dir, filepath.Join(path, "volumes", name)))
	syncDir(b, filepath.Join(path, "volumes"))
}

func syncDir(b *testing.B, dir string) {
	d, err := os.Open(dir)
	must(b, err)
	must(b, errors.Join(d.Sync(), d.Close()))
}

// BenchmarkDelete renames a volume into the trash; what is removed behind it is not counted.
func BenchmarkDelete(b *testing.B) {
	p := newPool(b, b.TempDir())
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		v := thin(fmt.Sprintf("pvc-%d", i), mib)
		create(b, p, v)
		b.StartTimer()
		must(b, p.Delete(b.Context(), v, datastore.Disposal{}))
	}
}

// BenchmarkStatus measures a pool of many volumes.
func BenchmarkStatus(b *testing.B) {
	for _, n := range []int{0, 100, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			path := memory(b, gib)
			p := newPool(b, path)
			for i := range n {
				v := thin(fmt.Sprintf("pvc-%d", i), mib)
				create(b, p, v)
			}
			var s datastore.Status
			for b.Loop() {
				var err error
				s, err = p.Status(b.Context())
				must(b, err)
			}
			if s.Total == 0 {
				b.Error("nothing was measured")
			}
		})
	}
}

// BenchmarkOpenAndClose attaches and detaches.
func BenchmarkOpenAndClose(b *testing.B) {
	p := newPool(b, b.TempDir())
	v := thin("pvc-1", gib)
	create(b, p, v)
	for b.Loop() {
		_, err := p.Open(b.Context(), v, false)
		must(b, errors.Join(err, p.Close(b.Context(), v)))
	}
}
