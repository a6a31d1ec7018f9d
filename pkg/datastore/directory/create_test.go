package directory_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

func TestCreateCarvesMarksAndFormats(t *testing.T) {
	for _, pool := range filesystems() {
		path := disk(t, pool, 2*gib)
		p := newPool(t, path)
		for _, provision := range []func(string, int64) datastore.Volume{thin, thick} {
			for _, fs := range append(filesystems(), "") {
				id := "pvc-" + fs
				v := provision(id, 320*mib)
				if fs != "" {
					v = formatted(v, fs)
				}
				t.Run(pool+"/"+string(v.Provisioning)+"/"+fs, func(t *testing.T) {
					checkMade(t, path, v, create(t, p, v))
					before := under(t, path)
					checkMade(t, path, v, create(t, p, v)) // again: found
					if after := under(t, path); after != before {
						t.Errorf("the second call changed something:\n%s\nwas:\n%s", after, before)
					}
				})
				must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
				must(t, p.Reclaim(t.Context()))
			}
		}
	}
}

func checkMade(t *testing.T, path string, v datastore.Volume, made datastore.Made) {
	t.Helper()
	want := datastore.Made{Bytes: v.Bytes, Location: "volumes/" + v.BackendName(), Identity: v.UID}
	if made != want {
		t.Errorf("made %+v, want %+v", made, want)
	}
	image := imageOf(path, v)
	info, err := os.Stat(image)
	must(t, err)
	if info.Size() != v.Bytes || info.Mode().Perm() != 0o600 {
		t.Errorf("image of %d bytes, mode %v", info.Size(), info.Mode())
	}
	got := allocated(t, image)
	if v.Provisioning == "Thick" && got < v.Bytes {
		t.Errorf("thick, but %d of %d bytes are allocated", got, v.Bytes)
	}
	if v.Provisioning == "Thin" && got > 16*mib && v.Filesystem != nil && v.Filesystem.Type == "ext4" {
		t.Errorf("thin, but %d bytes are allocated", got)
	}
	if v.Filesystem != nil {
		if uuid := run(t, "blkid", "-o", "value", "-s", "UUID", image); uuid != v.Filesystem.UUID {
			t.Errorf("file system UUID %s, want %s", uuid, v.Filesystem.UUID)
		}
	}
	var mark map[string]any
	must(t, json.Unmarshal([]byte(content(t, filepath.Dir(image), "meta.json")), &mark))
	for key, want := range map[string]any{
		"id": v.ID, "name": v.Name, "uid": v.UID, "cluster": cluster, "bytes": float64(v.Bytes), "sectorSize": 512.0,
		"provisioning": string(v.Provisioning), "access": string(v.Access), "created": "2026-01-02T03:04:05Z",
	} {
		if mark[key] != want {
			t.Errorf("the mark's %s is %v, want %v", key, mark[key], want)
		}
	}
	for _, dir := range []string{"tmp", "trash"} {
		if names, err := os.ReadDir(filepath.Join(path, ".datastore-csi", dir)); err != nil || len(names) > 0 {
			t.Errorf("%s holds %v, %v", dir, names, err)
		}
	}
}

func TestCreateRoundsSizesUp(t *testing.T) {
	p := newPool(t, t.TempDir())
	if made := create(t, p, thin("pvc-1", 2*mib+1)); made.Bytes != 2*mib+4096 {
		t.Errorf("%d bytes", made.Bytes)
	}
}

func TestCreateRefusesWhatItCannotMake(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	for name, c := range map[string]struct {
		change func(*datastore.Volume)
		kind   fault.Kind
	}{
		"an ID that climbs":         {func(v *datastore.Volume) { v.ID = "../x" }, fault.Invalid},
		"an ID with a slash":        {func(v *datastore.Volume) { v.ID = "a/b" }, fault.Invalid},
		"an absolute ID":            {func(v *datastore.Volume) { v.ID = "/etc" }, fault.Invalid},
		"an empty ID":               {func(v *datastore.Volume) { v.ID = "" }, fault.Invalid},
		"an ID with a NUL":          {func(v *datastore.Volume) { v.ID = "a\x00b" }, fault.Invalid},
		"an ID of 4 KiB":            {func(v *datastore.Volume) { v.ID = strings.Repeat("a", 4096) }, fault.Invalid},
		"an ID in Unicode":          {func(v *datastore.Volume) { v.ID = "ünï" }, fault.Invalid},
		"a hidden ID":               {func(v *datastore.Volume) { v.ID = ".tmp" }, fault.Invalid},
		"an ID like an option":      {func(v *datastore.Volume) { v.ID = "-rf" }, fault.Invalid},
		"a UID that climbs":         {func(v *datastore.Volume) { v.UID = "/../../x" }, fault.Invalid},
		"no UID":                    {func(v *datastore.Volume) { v.UID = "" }, fault.Invalid},
		"another cluster's":         {func(v *datastore.Volume) { v.ClusterID = "cluster-b" }, fault.Precondition},
		"a format it doesn't have":  {func(v *datastore.Volume) { v.Format = "Subdirectory" }, fault.Invalid},
		"a file system it lacks":    {func(v *datastore.Volume) { *v = formatted(*v, "ntfs") }, fault.Invalid},
		"less than an xfs can be":   {func(v *datastore.Volume) { *v = formatted(*v, "xfs"); v.Bytes = mib }, fault.Invalid},
		"nothing":                   {func(v *datastore.Volume) { v.Bytes = 0 }, fault.Invalid},
		"less than nothing":         {func(v *datastore.Volume) { v.Bytes = -1 }, fault.Invalid},
		"more than a file can hold": {func(v *datastore.Volume) { v.Bytes = 1<<63 - 1 }, fault.OutOfRange},
	} {
		t.Run(name, func(t *testing.T) {
			before := under(t, path)
			v := thin("pvc-1", gib)
			c.change(&v)
			_, err := p.Create(t.Context(), v, nil, nil)
			wantKind(t, err, c.kind)
			if len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			if after := under(t, path); after != before {
				t.Errorf("left behind:\n%s", after)
			}
		})
	}
}

func TestCreateWithoutSpaceLeavesNothing(t *testing.T) {
	for _, fs := range filesystems() {
		t.Run(fs, func(t *testing.T) {
			path := disk(t, fs, 512*mib)
			p := newPool(t, path)
			before, files := used(t, p), under(t, path)
			_, err := p.Create(t.Context(), thick("pvc-1", 4*gib), nil, nil)
			wantKind(t, err, fault.Exhausted, "4Gi", "pvc-1", "fast")
			// The figures can't tell this one: the file system finds out while it allocates.
			status, err := p.Status(t.Context())
			must(t, err)
			_, err = p.Create(t.Context(), thick("pvc-1", status.Free-status.Free%4096), nil, nil)
			wantKind(t, err, fault.Exhausted, "pvc-1")
			if after := under(t, path); after != files {
				t.Errorf("left behind:\n%s\nwas\n%s", after, files)
			}
			if after := used(t, p); after > before+mib {
				t.Errorf("%d bytes were in use, now %d", before, after)
			}
			create(t, p, thick("pvc-1", 64*mib))
		})
	}
}

func used(t *testing.T, p datastore.Pool) int64 {
	t.Helper()
	run(t, "sync")
	status, err := p.Status(t.Context())
	must(t, err)
	return status.Used
}

func TestCreateTellsWhatMkfsSays(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	v := formatted(thin("pvc-1", 64*mib), "ext4")
	v.Filesystem.MkfsOptions = []string{"-O", "no_such_feature"}
	_, err := p.Create(t.Context(), v, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "pvc-1") || !strings.Contains(err.Error(), "no_such_feature") {
		t.Errorf("got %v", err)
	}
	if names, err := os.ReadDir(filepath.Join(path, ".datastore-csi/tmp")); err != nil || len(names) > 0 {
		t.Errorf("left behind %v, %v", names, err)
	}
}

// A tool that zeroes by punching holes takes nothing of what was promised.
func TestAThickImageIsWholeWhateverMkfsDoes(t *testing.T) {
	tools := t.TempDir()
	put(t, "#!/bin/sh\nfor image; do :; done\n/usr/sbin/mke2fs \"$@\" && case \"$*\" in *-V*) ;; *) fallocate -p -o 32M -l 8M \"$image\" ;; esac\n", tools, "mke2fs")
	must(t, os.Chmod(filepath.Join(tools, "mke2fs"), 0o755))
	path := t.TempDir()
	c := config(t, path)
	c.Tools.Command = command.New(command.Config{Path: tools + ":" + command.DefaultPath})
	v := formatted(thick("pvc-1", 64*mib), "ext4")
	checkMade(t, path, v, create(t, open(t, c), v))
}

func TestCreateNeverTakesWhatIsThereForItsVolume(t *testing.T) {
	for name, meddle := range map[string]func(t *testing.T, dir string){
		"a directory without a mark": func(t *testing.T, dir string) { put(t, "x", dir, "disk.img") },
		"a mark of another volume": func(t *testing.T, dir string) {
			put(t, `{"layout":1,"id":"pvc-2","uid":"u","cluster":"cluster-a"}`, dir, "meta.json")
		},
		"a mark of another cluster": func(t *testing.T, dir string) {
			put(t, fmt.Sprintf(`{"layout":1,"id":"pvc-1","uid":%q,"cluster":"cluster-b"}`, thin("pvc-1", 1).UID), dir, "meta.json")
		},
		"a mark of a later layout": func(t *testing.T, dir string) {
			put(t, fmt.Sprintf(`{"layout":9,"id":"pvc-1","uid":%q,"cluster":"cluster-a"}`, thin("pvc-1", 1).UID), dir, "meta.json")
		},
		"a mark that is damaged": func(t *testing.T, dir string) { put(t, `{"layout":`, dir, "meta.json") },
		"a file":                 func(t *testing.T, dir string) { put(t, "x", dir) },
		"a symbolic link": func(t *testing.T, dir string) {
			outside := t.TempDir()
			put(t, "x", outside, "disk.img")
			must(t, os.MkdirAll(filepath.Dir(dir), 0o755))
			must(t, os.Symlink(outside, dir))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			p := newPool(t, path)
			v := thin("pvc-1", mib)
			meddle(t, filepath.Dir(imageOf(path, v)))
			before := under(t, path)
			for op, err := range everyCall(t, p, v) {
				switch op {
				case "status", "reclaim", "close": // what isn't the volume isn't attached as one
					must(t, err)
				default:
					wantKind(t, err, fault.Precondition, "pvc-1", path)
				}
			}
			if after := under(t, path); after != before {
				t.Errorf("something changed:\n%s\nwas:\n%s", after, before)
			}
		})
	}
}

func TestCreateOfManyAtOnce(t *testing.T) {
	path := disk(t, "ext4", 2*gib)
	p := newPool(t, path)
	const n = 32
	var wg sync.WaitGroup
	errs := make([]error, n)
	stop := make(chan struct{})
	var sweeper sync.WaitGroup
	sweeper.Go(func() { // removes what nobody makes, all the time
		for {
			select {
			case <-stop:
				return
			default:
				if err := p.Reclaim(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for i := range n {
		wg.Go(func() {
			_, errs[i] = p.Create(t.Context(), formatted(thin(fmt.Sprintf("pvc-%d", i), 64*mib), "ext4"), nil, nil)
		})
	}
	wg.Wait()
	close(stop)
	sweeper.Wait()
	for i, err := range errs {
		must(t, err)
		run(t, "e2fsck", "-fn", imageOf(path, thin(fmt.Sprintf("pvc-%d", i), 0)))
	}
}
