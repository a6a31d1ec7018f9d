package embedded_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store/embedded"
)

// sample returns the bytes of a closed file with some volumes in it, on several levels of pages.
func sample(tb testing.TB) []byte {
	tb.Helper()
	path := newPath(tb)
	db := open(tb, config(path))
	fill(tb, db, 60)
	closed(tb, db)
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// holding makes a file with that content.
func holding(tb testing.TB, data []byte) embedded.Config {
	tb.Helper()
	c := config(newPath(tb))
	if err := os.WriteFile(c.Path, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestADamagedFileIsNamedAndLeftAsItIs(t *testing.T) {
	good := sample(t)
	for name, damage := range map[string]func([]byte) []byte{
		"empty":               func([]byte) []byte { return nil },
		"one byte":            func(b []byte) []byte { return b[:1] },
		"half a page":         func(b []byte) []byte { return b[:2048] },
		"the first page":      func(b []byte) []byte { return b[:4096] },
		"the first pages":     func(b []byte) []byte { return b[:8192] },
		"cut in the middle":   func(b []byte) []byte { return b[:len(b)/8] },
		"text":                func([]byte) []byte { return bytes.Repeat([]byte("not a store\n"), 10000) },
		"zeros":               func(b []byte) []byte { return make([]byte, len(b)) },
		"no meta pages":       func(b []byte) []byte { clear(b[:8192]); return b },
		"no page but meta":    func(b []byte) []byte { clear(b[8192:]); return b },
		"noise but for meta":  func(b []byte) []byte { noise(b[8192:]); return b },
		"all but meta turned": func(b []byte) []byte { turn(b[8192:]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			bad := damage(bytes.Clone(good))
			c := holding(t, bad)
			refused(t, c, fault.DataLoss, "left as it is")
			if !bytes.Equal(content(t, c.Path), bad) {
				t.Error("the file was changed")
			}
			if entries, err := os.ReadDir(filepath.Dir(c.Path)); err != nil || len(entries) != 1 {
				t.Errorf("the folder holds %v, %v", entries, err)
			}
		})
	}
}

// noise fills b with bytes that look like nothing.
func noise(b []byte) {
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
}

func turn(b []byte) {
	for i := range b {
		b[i] ^= 0xff
	}
}

// TestNoFlippedByteGoesUnnoticed damages one byte at a time. Where the byte is not used (a free page, the
// rest of a page, the older meta page), all records must be read as they were.
func TestNoFlippedByteGoesUnnoticed(t *testing.T) {
	good := sample(t)
	db := open(t, holding(t, good))
	want := listed(t, db)
	closed(t, db)
	refusals := 0
	const step = 1499 // prime: it falls on every place of a page
	for at := 0; at < len(good); at += step {
		bad := bytes.Clone(good)
		bad[at] ^= 1 << (at % 8)
		c := holding(t, bad)
		db, err := embedded.Open(t.Context(), c)
		if err != nil {
			refusals++
			if !fault.Is(err, fault.DataLoss) && !fault.Is(err, fault.Precondition) {
				t.Errorf("byte %d: got kind %v: %v", at, fault.KindOf(err), err)
			}
			if !bytes.Equal(content(t, c.Path), bad) {
				t.Errorf("byte %d: the file was changed", at)
			}
			continue
		}
		if got := listed(t, db); !bytes.Equal(got, want) {
			t.Errorf("byte %d: the records are read otherwise", at)
		}
		closed(t, db)
	}
	if refusals == 0 {
		t.Error("no damage was ever noticed")
	}
	t.Logf("%d of %d were refused", refusals, len(good)/step+1)
}

// listed returns all volumes, as text.
func listed(tb testing.TB, db *embedded.DB) []byte {
	tb.Helper()
	all, err := db.Store().Volumes.List(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	var text bytes.Buffer
	for _, v := range all {
		text.WriteString(v.Name + " " + string(v.UID) + " " + v.ResourceVersion + " " + v.Spec.Size.String() + " " + v.Status.Worker.Location + "\n")
	}
	return text.Bytes()
}

func TestARecordThatCannotBeReadIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*bbolt.Tx) error
		words  []string
	}{
		"no sum":         {put("volumes", "pvc-1", []byte("abc")), []string{"volume record pvc-1"}},
		"wrong sum":      {put("volumes", "pvc-1", []byte("abcd{}")), []string{"volume record pvc-1", "check sum"}},
		"empty":          {put("hosts", "h", nil), []string{"host record h"}},
		"a bucket":       {func(tx *bbolt.Tx) error { _, err := tx.Bucket([]byte("hosts")).CreateBucket([]byte("h")); return err }, []string{"host record h"}},
		"no bucket":      {func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("snapshots")) }, []string{`"snapshots"`}},
		"no identity":    {put("store", "identity", []byte("{")), []string{"identity"}},
		"no cluster":     {put("store", "identity", []byte(`{"format":1,"host":"node-1","machineID":"`+machineID+`"}`)), []string{"cluster"}},
		"no version":     {put("store", "resourceVersion", []byte("many")), []string{"resource version"}},
		"no version yet": {put("store", "resourceVersion", []byte("-1")), []string{"resource version"}},
	} {
		t.Run(name, func(t *testing.T) {
			conf := config(newPath(t))
			closed(t, open(t, conf))
			edit(t, conf.Path, c.change)
			was := content(t, conf.Path)
			refused(t, conf, fault.DataLoss, c.words...)
			if !bytes.Equal(content(t, conf.Path), was) {
				t.Error("the file was changed")
			}
		})
	}
}

func put(bucket, key string, value []byte) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(key), value) }
}

func TestABboltFileOfSomethingElseIsNotTakenOver(t *testing.T) {
	c := config(newPath(t))
	edit(t, c.Path, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
	was := content(t, c.Path)
	refused(t, c, fault.Precondition, "something else")
	if !bytes.Equal(content(t, c.Path), was) {
		t.Error("the file was changed")
	}
}

// FuzzOpen overwrites a part of a good file.
func FuzzOpen(f *testing.F) {
	good := sample(f)
	f.Add(uint32(0), []byte{1})
	f.Add(uint32(4096+16), bytes.Repeat([]byte{0xff}, 64))
	f.Add(uint32(2*4096), make([]byte, 4096))
	f.Add(uint32(3*4096+10), []byte{0xff, 0xff})
	path := filepath.Join(f.TempDir(), "store.db")
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		bad := bytes.Clone(good)
		copy(bad[int(at)%len(bad):], patch)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := embedded.Open(context.Background(), config(path))
		if err == nil {
			closed(t, db)
			return
		}
		if !bytes.Equal(content(t, path), bad) {
			t.Errorf("the file was changed, and then refused: %v", err)
		}
	})
}
