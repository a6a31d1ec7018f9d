package embedded

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// FuzzDecode gives any bytes for a stored record. What is taken must come out the same again.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		`{}`, `{"metadata":{"name":"r"}}`, `{"metadata":{"name":"other"}}`, `null`, `[`, `{"metadata":{"name":"r","creationTimestamp":"x"}}`,
		`{"metadata":{"name":"r","creationTimestamp":"2026-01-02T03:04:05.678Z"},"spec":{"size":"1024Mi"}}`,
		`{"metadata":{"name":"r"},"spec":{"size":"1e999999999"}}`, `{"metadata":{"name":"r"},"status":{"worker":{"size":-1}}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := decode[v1alpha1.DatastoreVolume]("r", text); err == nil && len(text) < sumBytes {
			t.Error("a record without a sum was taken")
		}
		volume, err := decode[v1alpha1.DatastoreVolume]("r", withSum(text))
		if err != nil {
			return
		}
		value, err := encode(volume)
		if err != nil {
			return // a time that JSON has no words for
		}
		again, err := decode[v1alpha1.DatastoreVolume]("r", value)
		if err != nil {
			t.Fatalf("what was taken cannot be read again: %v", err)
		}
		if twice, err := encode(again); err != nil || !bytes.Equal(twice, value) {
			t.Errorf("%s became %s, %v", value, twice, err)
		}
	})
}

func withSum(text []byte) []byte {
	s := sum(text)
	return append([]byte{byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)}, text...)
}

// FuzzInspect overwrites two parts of a good file, behind its meta pages: of these bbolt itself takes the
// one that is whole. What passes must have nothing that bbolt's own check finds, which may crash.
func FuzzInspect(f *testing.F) {
	dir := f.TempDir()
	good := sampleFile(f, filepath.Join(dir, "good"))
	f.Add(uint32(0), []byte{1}, uint32(4096), []byte{2})
	f.Add(uint32(8), []byte{0x10, 0, 0xff, 0xff}, uint32(16), bytes.Repeat([]byte{0xff}, 8))
	for page := range len(good)/4096 - metaPages {
		f.Add(uint32(page*4096), []byte{7}, uint32(page*4096+12), []byte{1})
		f.Add(uint32(page*4096+10), []byte{1}, uint32(page*4096+24), []byte{byte(page)})
	}
	f.Fuzz(func(t *testing.T, at uint32, patch []byte, at2 uint32, patch2 []byte) {
		bad := bytes.Clone(good)
		tree := bad[metaPages*4096:]
		copy(tree[int(at)%len(tree):], patch)
		copy(tree[int(at2)%len(tree):], patch2)
		if inspect(bytes.NewReader(bad), int64(len(bad)), 4096) != nil {
			return
		}
		path := filepath.Join(dir, "passed")
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatalf("bbolt does not open it: %v", err)
		}
		defer func() { _ = db.Close() }()
		err = db.View(func(tx *bbolt.Tx) error {
			for problem := range tx.Check() {
				t.Errorf("bbolt finds: %v", problem)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// sampleFile makes a file with keys on several levels of pages, a long value, a bucket of its own page, one within a
// value, and free pages.
func sampleFile(tb testing.TB, path string) []byte {
	tb.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: 4096})
	if err != nil {
		tb.Fatal(err)
	}
	for round := range 3 {
		err := db.Update(func(tx *bbolt.Tx) error {
			for _, name := range []string{"many", "few"} {
				b, err := tx.CreateBucketIfNotExists([]byte(name))
				if err != nil {
					return err
				}
				n := map[string]int{"many": 40, "few": 2}[name]
				for i := range n {
					value := strings.Repeat("x", 20+800*(n/40)+round)
					if err := b.Put([]byte{'k', byte('0' + i/10), byte('0' + i%10)}, []byte(value)); err != nil {
						return err
					}
				}
			}
			return tx.Bucket([]byte("many")).Put([]byte("long"), make([]byte, 10000))
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func TestInspectPassesWhatBboltWrote(t *testing.T) {
	data := sampleFile(t, filepath.Join(t.TempDir(), "store.db"))
	if err := inspect(bytes.NewReader(data), int64(len(data)), 4096); err != nil {
		t.Error(err)
	}
}

func TestInspectPassesAFileWithoutAListOfFreePages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true, PageSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("b")); return err }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := inspect(bytes.NewReader(data), int64(len(data)), 4096); err != nil {
		t.Error(err)
	}
}

// TestInspectPassesEveryStateOfAStore writes and removes much, and looks at the file in between.
func TestInspectPassesEveryStateOfAStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	n := 0
	c := Config{
		Path: path, Owner: Owner{Host: "h", MachineID: "m"}, Now: time.Now,
		NewUID: func() string { n++; return "uid-" + strings.Repeat("i", n%7) },
	}
	for round := range 6 {
		db, err := Open(context.Background(), c)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for i := range 80 {
			name := "r" + strings.Repeat("x", (i*7+round)%60) + string(rune('a'+i%26))
			v := &v1alpha1.DatastoreVolume{}
			v.Name = name
			v.Annotations = map[string]string{"long": strings.Repeat("y", (i*i*31)%9000)}
			_, err := db.volumes.Create(t.Context(), v)
			if err != nil || i%3 == round%3 {
				err = db.volumes.Delete(t.Context(), name, "")
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
