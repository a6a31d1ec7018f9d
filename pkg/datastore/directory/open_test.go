package directory_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/directory"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

const markerPath = ".datastore-csi/pool.json"

func markerOf(t testing.TB, path string) map[string]any {
	t.Helper()
	var m map[string]any
	must(t, json.Unmarshal([]byte(content(t, path, markerPath)), &m))
	return m
}

func setMarker(t testing.TB, path string, fields map[string]any) {
	t.Helper()
	data, err := json.Marshal(fields)
	must(t, err)
	put(t, string(data), path, markerPath)
}

func poolUUID(t testing.TB, p datastore.Pool) string {
	t.Helper()
	status, err := p.Status(t.Context())
	must(t, err)
	return status.UUID
}

func TestOpenMarksABlankDirectoryAndAdoptsItAgain(t *testing.T) {
	for _, fs := range filesystems() {
		t.Run(fs, func(t *testing.T) {
			path := disk(t, fs, 320*mib) // ext4 brings its lost+found
			c := config(t, path)
			p := open(t, c)
			m := markerOf(t, path)
			if m["cluster"] != cluster || m["machine"] != machine || m["datastore"] != "fast" || m["layout"] != 1.0 || m["pool"] != poolUUID(t, p) {
				t.Errorf("marker %v", m)
			}
			for _, known := range []string{"", poolUUID(t, p)} {
				c.PoolUUID = known
				if again := poolUUID(t, open(t, c)); again != m["pool"] {
					t.Errorf("with UUID %q known the pool became %s, was %s", known, again, m["pool"])
				}
			}
		})
	}
}

func TestOpenRefusesAPathThatIsNoPool(t *testing.T) {
	base := t.TempDir()
	put(t, "x", base, "plain")
	put(t, "x", base, "full/thesis.txt")
	must(t, os.Mkdir(filepath.Join(base, "blank"), 0o755))
	must(t, os.Symlink("blank", filepath.Join(base, "link")))
	put(t, "x", base, "damaged/lost+found/#42")
	put(t, "x", base, "hidden/.profile")
	put(t, "x", base, "alien/.datastore-csi/x")
	for name, c := range map[string]struct {
		path string
		kind fault.Kind
		says string
	}{
		"missing":                      {base + "/absent", fault.Unavailable, base + "/absent is not there"},
		"relative":                     {"blank", fault.Invalid, "absolute"},
		"the root":                     {"/", fault.Invalid, `"/"`},
		"empty":                        {"", fault.Invalid, `""`},
		"a file":                       {base + "/plain", fault.Precondition, "not a directory"},
		"a symbolic link":              {base + "/link", fault.Precondition, base + "/link is a symbolic link"},
		"not empty":                    {base + "/full", fault.Precondition, "initialize"},
		"with a hidden file":           {base + "/hidden", fault.Precondition, "initialize"},
		"with something in lost+found": {base + "/damaged", fault.Precondition, "initialize"},
		"with a stranger's folder":     {base + "/alien", fault.Precondition, "initialize"},
		"no storage":                   {"/proc/sys/fs", fault.Precondition, "type proc"},
		"with a NUL":                   {base + "/\x00", fault.Invalid, "NUL"},
		"of 4 KiB":                     {"/" + strings.Repeat("p", 4096), fault.Invalid, "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			before := under(t, base)
			conf := config(t, c.path)
			_, err := directory.Type().New(t.Context(), conf)
			wantKind(t, err, c.kind, c.says, "open datastore fast")
			if after := under(t, base); after != before {
				t.Errorf("something changed:\n%s\nwas:\n%s", after, before)
			}
			if err := conf.Claims.Take("other", "place", nil); err != nil {
				t.Errorf("a claim is left: %v", err)
			}
		})
	}
}

func TestOpenInitializesBesideForeignFilesOnlyWhenAsked(t *testing.T) {
	path := t.TempDir()
	put(t, "mine", path, "thesis.txt")
	c := config(t, path)
	c.Datastore.Spec.Directory.Initialize = true
	p := open(t, c)
	create(t, p, thin("pvc-1", mib))
	if content(t, path, "thesis.txt") != "mine" {
		t.Error("a foreign file was changed")
	}
	c.Datastore.Spec.Directory.Initialize = false
	if poolUUID(t, open(t, c)) != poolUUID(t, p) {
		t.Error("the marker was made anew")
	}
}

func TestOpenJudgesTheMarker(t *testing.T) {
	path := t.TempDir()
	uid := poolUUID(t, newPool(t, path))
	const other = "11111111-2222-4333-8444-555555555555"
	for name, c := range map[string]struct {
		marker map[string]any
		change func(*datastore.Config)
		kind   fault.Kind
		says   []string
	}{
		"of another cluster is refused, naming both": {
			change: func(c *datastore.Config) { c.ClusterID = "cluster-b" },
			kind:   fault.Precondition, says: []string{"cluster-a", "cluster-b"},
		},
		"of another machine is refused, naming both": {
			change: func(c *datastore.Config) { c.MachineID = "feedface" },
			kind:   fault.Precondition, says: []string{machine, "feedface", "adoptFrom"},
		},
		"of a third machine is not adopted": {
			change: func(c *datastore.Config) { c.MachineID = "feedface"; c.Datastore.Spec.Directory.AdoptFrom = "dead" },
			kind:   fault.Precondition, says: []string{machine},
		},
		"of another datastore is refused": {
			change: func(c *datastore.Config) { c.Datastore.Name = "slow" },
			kind:   fault.Precondition, says: []string{`"fast"`, `"slow"`},
		},
		"of another pool is unavailable": {
			change: func(c *datastore.Config) { c.PoolUUID = other },
			kind:   fault.Unavailable, says: []string{other, uid},
		},
		"of a later layout is refused": {
			marker: map[string]any{"layout": 2, "pool": uid, "cluster": cluster, "machine": machine, "datastore": "fast"},
			kind:   fault.Precondition, says: []string{"layout 2"},
		},
		"without a pool is refused": {marker: map[string]any{"layout": 1}, kind: fault.Precondition, says: []string{"no pool"}},
	} {
		t.Run(name, func(t *testing.T) {
			was := content(t, path, markerPath)
			if c.marker != nil {
				setMarker(t, path, c.marker)
			}
			before := content(t, path, markerPath)
			conf := config(t, path)
			conf.PoolUUID = uid
			if c.change != nil {
				c.change(&conf)
			}
			conf.Datastore.Spec.Directory.Initialize = true // changes nothing where there is a marker
			_, err := directory.Type().New(t.Context(), conf)
			wantKind(t, err, c.kind, append(c.says, path)...)
			if content(t, path, markerPath) != before {
				t.Error("the marker was changed")
			}
			put(t, was, path, markerPath)
		})
	}
}

func TestOpenRefusesAMarkerThatCannotBeRead(t *testing.T) {
	path := t.TempDir()
	newPool(t, path)
	outside := put(t, content(t, path, markerPath), t.TempDir(), "pool.json")
	for name, damage := range map[string]func(marker string){
		"cut short":       func(m string) { must(t, os.Truncate(m, 10)) },
		"empty":           func(m string) { must(t, os.Truncate(m, 0)) },
		"huge":            func(m string) { must(t, os.Truncate(m, 1<<40)) },
		"a symbolic link": func(m string) { must(t, os.Remove(m)); must(t, os.Symlink(outside, m)) },
		"a directory":     func(m string) { must(t, os.Remove(m)); must(t, os.Mkdir(m, 0o755)) },
		"a named pipe":    func(m string) { must(t, os.Remove(m)); must(t, unix.Mkfifo(m, 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			damage(filepath.Join(path, markerPath))
			_, err := directory.Type().New(t.Context(), config(t, path))
			wantKind(t, err, fault.Precondition, markerPath)
			must(t, os.Remove(filepath.Join(path, markerPath)))
			put(t, content(t, outside), path, markerPath)
		})
	}
}

func TestAdoptFromTakesAMovedDiskOverOnce(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	v := thin("pvc-1", mib)
	create(t, p, v)
	c := config(t, path)
	c.MachineID, c.Datastore.Spec.Directory.AdoptFrom = "feedface", machine
	moved := open(t, c)
	if poolUUID(t, moved) != markerOf(t, path)["pool"] || markerOf(t, path)["machine"] != "feedface" {
		t.Errorf("marker %v", markerOf(t, path))
	}
	create(t, moved, v)
	_, err := p.Status(t.Context())
	wantKind(t, err, fault.Unavailable, "feedface")
	_, err = directory.Type().New(t.Context(), config(t, path)) // the old machine sees it again
	wantKind(t, err, fault.Precondition, "feedface")
}

func TestTwoDatastoresNeverShareAPlace(t *testing.T) {
	base := t.TempDir()
	pool, alias := filepath.Join(base, "pool"), filepath.Join(base, "alias")
	inner := filepath.Join(base, "inner-alias")
	for _, dir := range []string{pool, alias, inner, pool + "/inner"} {
		must(t, os.Mkdir(dir, 0o755))
	}
	must(t, unix.Mount(pool, alias, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(alias, 0)) })
	must(t, unix.Mount(pool+"/inner", inner, "", unix.MS_BIND, ""))
	t.Cleanup(func() { must(t, unix.Unmount(inner, 0)) })
	c := config(t, pool)
	c.Datastore.Spec.Directory.Initialize = true
	open(t, c)
	for name, path := range map[string]string{
		"the same path": pool, "the same directory by a bind mount": alias,
		"inside it": pool + "/inner", "inside it, by a bind mount": alias + "/inner", "a bind mount of what is inside it": inner, "around it": base,
	} {
		t.Run(name, func(t *testing.T) {
			other := config(t, path)
			other.Claims, other.Datastore.Name, other.Datastore.Spec.Directory.Initialize = c.Claims, "slow", true
			_, err := directory.Type().New(t.Context(), other)
			wantKind(t, err, fault.Precondition, `"fast"`)
		})
	}
	if exists(base, markerPath) || exists(pool, "inner", markerPath) {
		t.Error("a directory that was refused has a marker")
	}
	open(t, c) // its own place stays its own
}

func TestAPoolIsUnavailableWhileItsDiskIsNotMounted(t *testing.T) {
	image, path := newImage(t, "ext4", 64*mib), t.TempDir()
	mount(t, image, path)
	c := config(t, path)
	p := open(t, c)
	v := thin("pvc-1", mib)
	create(t, p, v)
	c.PoolUUID = poolUUID(t, p)

	unmount(t, path) // nothing is kept open
	for op, err := range everyCall(t, p, v) {
		wantKind(t, err, fault.Unavailable, "not mounted", path)
		if t.Failed() {
			t.Fatalf("at %s", op)
		}
	}
	c.Datastore.Spec.Directory.Initialize = true
	_, err := directory.Type().New(t.Context(), c)
	wantKind(t, err, fault.Unavailable, "not mounted")
	if names, err := os.ReadDir(path); err != nil || len(names) > 0 {
		t.Errorf("the mount point holds %v, %v", names, err)
	}

	mount(t, image, path)
	create(t, p, v)
	open(t, c)
}

func everyCall(t *testing.T, p datastore.Pool, v datastore.Volume) map[string]error {
	t.Helper()
	errs := map[string]error{"delete": p.Delete(t.Context(), v, datastore.Disposal{}), "close": p.Close(t.Context(), v), "reclaim": p.Reclaim(t.Context())}
	_, errs["status"] = p.Status(t.Context())
	_, errs["create"] = p.Create(t.Context(), v, nil, nil)
	_, errs["expand"] = p.Expand(t.Context(), v)
	_, errs["open"] = p.Open(t.Context(), v, false)
	return errs
}

func TestAPoolOnAReadOnlyFilesystemServesWhatIsThere(t *testing.T) {
	path := disk(t, "ext4", 64*mib)
	run(t, "mount", "-o", "remount,ro", path)
	_, err := directory.Type().New(t.Context(), config(t, path))
	wantKind(t, err, fault.Unavailable, "read-only", path)
	run(t, "mount", "-o", "remount,rw", path)
	c := config(t, path)
	v := thin("pvc-1", mib)
	create(t, open(t, c), v)
	run(t, "mount", "-o", "remount,ro", path)
	p := open(t, c)
	status, err := p.Status(t.Context())
	must(t, err)
	if !status.Degraded || len(status.Findings) != 1 || status.Findings[0].Reason != "ReadOnly" {
		t.Errorf("%+v", status)
	}
	create(t, p, v) // it is there
	_, err = p.Create(t.Context(), thin("pvc-2", mib), nil, nil)
	wantKind(t, err, fault.Unavailable, "read-only")
	wantKind(t, p.Delete(t.Context(), v, datastore.Disposal{}), fault.Unavailable, "read-only")
	must(t, p.Delete(t.Context(), thin("pvc-2", mib), datastore.Disposal{}))
}
