package directory

import (
	"path"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

func FuzzMarker(f *testing.F) {
	for _, s := range []string{
		`{"layout":1,"pool":"p","cluster":"c","machine":"m","datastore":"d","created":"2026-01-02T03:04:05Z"}`,
		`{"layout":2,"pool":"p"}`, `{"layout":1}`, `{}`, `null`, `[]`, ``, `{"layout":"1"}`, `{"layout":1e99}`, "\x00", `{"layout":1,"pool":{}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMarker(data, "/srv/fast/"+markerName)
		if err != nil {
			refused(t, err, "/srv/fast/")
			return
		}
		if m.Layout != layout || m.Pool == "" {
			t.Errorf("let through: %+v", m)
		}
		again, err := encode(m)
		if err != nil {
			return // a year that JSON's times don't know
		}
		if back, err := parseMarker(again, ""); err != nil || !back.samePool(m) {
			t.Errorf("%+v became %+v, %v", m, back, err)
		}
	})
}

func FuzzMeta(f *testing.F) {
	for _, s := range []string{
		`{"layout":1,"id":"pvc-1","uid":"u","cluster":"c","bytes":4096,"filesystem":{"type":"ext4","uuid":"u"},"sectorSize":512}`,
		`{"layout":0}`, `{"layout":1,"bytes":-1}`, `{"layout":1,"bytes":1e30}`, `null`, ``, `{"layout":1,"labels":{"a":1}}`, "{\"layout\":1}\x00",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMeta(data, "/srv/fast/volumes/x/"+metaName)
		if err != nil {
			refused(t, err, "/srv/fast/volumes/x/")
			return
		}
		again, err := encode(m)
		if err != nil {
			return // a year that JSON's times don't know
		}
		back, err := parseMeta(again, "")
		if err != nil || back.ID != m.ID || back.UID != m.UID || back.Cluster != m.Cluster || back.Bytes != m.Bytes ||
			!reflect.DeepEqual(back.Filesystem, m.Filesystem) || !reflect.DeepEqual(back.Labels, m.Labels) && len(m.Labels) > 0 {
			t.Errorf("%+v became %+v, %v", m, back, err)
		}
	})
}

func refused(t *testing.T, err error, names string) {
	t.Helper()
	if !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), names) || len(err.Error()) > 1000 {
		t.Errorf("error %v (%v)", err, fault.KindOf(err))
	}
}

// Whatever names come in: what is let through is one folder in volumes/.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"pvc-1", "..", ".", "", "a/b", "/", "a\x00b", strings.Repeat("a", 4096), "ü", "-rf", "%2e%2e", "a b", "A.b_c-9"} {
		f.Add(s, "0b0e7a3a-0000-4000-8000-000000000000")
		f.Add("pvc-1", s)
	}
	f.Fuzz(func(t *testing.T, id, uid string) {
		v := datastore.Volume{ID: id, UID: uid}
		if err := checkNames(v); err != nil {
			if !fault.Is(err, fault.Invalid) || len(err.Error()) > 1000 {
				t.Errorf("error %v (%v)", err, fault.KindOf(err))
			}
			return
		}
		name := volumesDir + "/" + v.BackendName()
		if err := file.CheckName(name); err != nil || path.Dir(path.Clean(name)) != volumesDir || file.Temporary(v.BackendName()) {
			t.Errorf("%q, %q leads to %q: %v", id, uid, name, err)
		}
	})
}

func FuzzWork(f *testing.F) {
	for _, s := range []string{
		`{"source":{"uid":"u","inode":1,"bytes":8192,"modified":"2026-01-02T03:04:05.6Z","changed":"2026-01-02T03:04:05Z"},"offset":4096,"done":4096,"takenAt":"2026-01-02T03:04:05Z"}`,
		`{"offset":-1}`, `{"offset":1}`, `{"source":{"bytes":5},"offset":5,"done":6}`, `null`, ``, `[]`, `{"source":{"bytes":1e30}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := parseWork(data)
		if err != nil {
			if !fault.Is(err, fault.NotFound) {
				t.Errorf("got %v", err)
			}
			return
		}
		if w.Offset < 0 || w.Offset > w.Source.Bytes || w.Done < 0 || w.Done > w.Offset {
			t.Errorf("let through: %+v", w)
		}
		again, err := encode(w)
		if err != nil {
			return // a year that JSON's times don't know
		}
		if back, err := parseWork(again); err != nil || !back.Source.same(w.Source) || back.Offset != w.Offset || back.Done != w.Done {
			t.Errorf("%+v became %+v, %v", w, back, err)
		}
	})
}

func FuzzOrder(f *testing.F) {
	for _, s := range []string{`{"wipe":"Zero","offset":4096,"passed":true}`, `{"wipe":"Discard"}`, `{"wipe":"None"}`, `{"wipe":""}`, `{}`, `null`, ``, `{"wipe":"Zero","offset":-5}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := parseOrder(data, "/srv/fast/"+orderName)
		if err != nil {
			refused(t, err, "/srv/fast/")
			return
		}
		if strength(o.Wipe) == 0 || o.Offset < 0 {
			t.Errorf("let through: %+v", o)
		}
	})
}

func FuzzArchiveName(f *testing.F) {
	for _, s := range []string{"data", "../../etc", "-rf", ".", "", "日本", "a\x00b", strings.Repeat("x", 300), "a/b"} {
		f.Add(s, s, s)
	}
	f.Fuzz(func(t *testing.T, name, namespace, claim string) {
		at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
		m := meta{ID: "pvc-1", Name: name, Labels: map[string]string{claimLabel: claim, namespaceLabel: namespace}, Archived: &at}
		got := archiveName(m)
		if err := file.CheckName(archivedDir + "/" + got + "-10000"); err != nil || strings.Contains(got, "/") || !strings.HasSuffix(got, "_2026-03-04") ||
			strings.ContainsRune("-._", rune(got[0])) {
			t.Errorf("%q, %v", got, err)
		}
	})
}
