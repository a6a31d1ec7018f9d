package directory_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/directory"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// job is a call that a child process makes, to die in the middle of it.
type job struct {
	Call, Path, Machine, AdoptFrom string
	Volume                         datastore.Volume
	From                           *datastore.Volume
	Disposal                       datastore.Disposal
	// DieAt is the number of the point before which it dies by SIGKILL.
	DieAt int
}

// jobVariable holds a job for this test binary, run again.
const jobVariable = "DATASTORE_CSI_TEST_JOB"

func TestMain(m *testing.M) {
	text, ok := os.LookupEnv(jobVariable)
	if !ok {
		goleak.VerifyTestMain(m)
		return
	}
	if err := runJob(text); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func runJob(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	n := 0
	ctx := step.WithHook(context.Background(), func(_, what string) {
		if n++; n == j.DieAt {
			fmt.Print(what)
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	})
	c, err := configOf(j.Path)
	if err != nil {
		return err
	}
	c.MachineID, c.Datastore.Spec.Directory.AdoptFrom = j.Machine, j.AdoptFrom
	p, err := directory.Type().New(ctx, c)
	if err != nil {
		return err
	}
	switch j.Call {
	case "create":
		_, err = p.Create(ctx, j.Volume, j.From, nil)
	case "snapshot":
		_, err = p.Snapshot(ctx, *j.From, j.Volume, nil)
	case "expand":
		_, err = p.Expand(ctx, j.Volume)
	case "delete":
		if err = p.Delete(ctx, j.Volume, j.Disposal); err == nil {
			err = p.Reclaim(ctx)
		}
	}
	return err
}

// crashes runs a job in a process of its own and kills it before its first change, then before its second and so
// on, until it comes through. Each time next returns the job, and died is called after each death.
func crashes(t *testing.T, next func() job, died func(point string)) {
	t.Helper()
	for k := 1; ; k++ {
		j := next()
		j.DieAt = k
		if j.Machine == "" {
			j.Machine = machine
		}
		text, err := json.Marshal(j)
		must(t, err)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), jobVariable+"="+string(text))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == unix.SIGKILL {
			died(string(out))
			continue
		}
		if err != nil {
			t.Fatalf("the child's %s failed: %v: %s", j.Call, err, out)
		}
		if t.Logf("%s has %d points", j.Call, k-1); k < 3 {
			t.Error("too few for a test")
		}
		return
	}
}

// onEach runs a test on a pool on each file system; reopen gives the pool of a process that starts anew.
func onEach(t *testing.T, test func(t *testing.T, fs, path string, reopen func() datastore.Pool)) {
	t.Helper()
	for _, fs := range filesystems() {
		t.Run(fs, func(t *testing.T) {
			path := disk(t, fs, gib)
			newPool(t, path)
			test(t, fs, path, func() datastore.Pool { return open(t, config(t, path)) })
		})
	}
}

func TestOpenDiesAnywhereAndMakesOneMarker(t *testing.T) {
	path, deaths := "", 0
	crashes(t, func() job {
		path = t.TempDir()
		return job{Call: "open", Path: path}
	}, func(point string) {
		deaths++
		was := ""
		if exists(path, markerPath) {
			was = content(t, path, markerPath)
		}
		create(t, newPool(t, path), thin("pvc-1", mib))
		if was != "" && content(t, path, markerPath) != was {
			t.Errorf("died at %q: the marker was made anew", point)
		}
	})
	if deaths < 5 { // three folders and the marker below one of ours
		t.Errorf("it died at %d points only", deaths)
	}
}

func TestAdoptionDiesAnywhere(t *testing.T) {
	path := t.TempDir()
	p := newPool(t, path)
	uid := poolUUID(t, p)
	crashes(t, func() job { return job{Call: "open", Path: path, Machine: "feedface", AdoptFrom: machine} }, func(point string) {
		if m := markerOf(t, path); m["pool"] != uid || (m["machine"] != machine && m["machine"] != "feedface") {
			t.Errorf("died at %q: marker %v", point, m)
		}
	})
}

// One volume is made; each death is followed by the same call in a new process, which must come through,
// and by the volume's end.
func TestCreateDiesAnywhereAndIsRepeated(t *testing.T) {
	onEach(t, func(t *testing.T, fs, path string, reopen func() datastore.Pool) {
		for _, v := range []datastore.Volume{formatted(thin("pvc-1", 320*mib), fs), formatted(thick("pvc-2", 320*mib), fs)} {
			base := under(t, path)
			crashes(t, func() job { return job{Call: "create", Path: path, Volume: v} }, func(point string) {
				if exists(filepath.Dir(imageOf(path, v))) {
					t.Errorf("died at %q: it is in its place before it was renamed", point)
				}
				p := reopen()
				checkMade(t, path, v, create(t, p, v))
				remove(t, p, v)
				if after := under(t, path); after != base {
					t.Fatalf("died at %q, left behind:\n%s", point, after)
				}
			})
			remove(t, reopen(), v)
		}
	})
}

func TestCreateDiesAnywhereAndIsReclaimed(t *testing.T) {
	onEach(t, func(t *testing.T, fs, path string, reopen func() datastore.Pool) {
		v, base := formatted(thick("pvc-1", 320*mib), fs), under(t, path)
		crashes(t, func() job { return job{Call: "create", Path: path, Volume: v} }, func(point string) {
			must(t, reopen().Reclaim(t.Context()))
			if after := under(t, path); after != base {
				t.Fatalf("died at %q, left behind:\n%s", point, after)
			}
		})
	})
}

func TestExpandDiesAnywhereAndIsRepeated(t *testing.T) {
	onEach(t, func(t *testing.T, _, path string, reopen func() datastore.Pool) {
		for _, v := range []datastore.Volume{thin("pvc-1", 8*mib), thick("pvc-2", 8*mib)} {
			create(t, reopen(), v)
			opened, err := reopen().Open(t.Context(), v, false)
			must(t, err)
			crashes(t, func() job {
				v.Bytes += 8 * mib
				return job{Call: "expand", Path: path, Volume: v}
			}, func(point string) {
				p := reopen()
				opened, err = p.Open(t.Context(), v, false)
				must(t, err)
				made, err := p.Expand(t.Context(), v)
				must(t, err)
				checkMade(t, path, v, made)
				if got := deviceBytes(t, opened.Device); got != v.Bytes {
					t.Errorf("died at %q: the device has %d bytes, want %d", point, got, v.Bytes)
				}
			})
			must(t, reopen().Close(t.Context(), v))
			remove(t, reopen(), v)
		}
	})
}

func TestDeleteAndReclaimDieAnywhere(t *testing.T) {
	onEach(t, func(t *testing.T, _, path string, reopen func() datastore.Pool) {
		v, other := thick("pvc-1", 8*mib), thick("pvc-2", 8*mib)
		create(t, reopen(), other)
		base := under(t, path)
		crashes(t, func() job {
			create(t, reopen(), v)
			_, err := reopen().Open(t.Context(), v, false) // a crash left it attached
			must(t, err)
			return job{Call: "delete", Path: path, Volume: v}
		}, func(point string) {
			remove(t, reopen(), v)
			if after := under(t, path); after != base {
				t.Fatalf("died at %q, left behind:\n%s", point, after)
			}
		})
		checkMade(t, path, other, create(t, reopen(), other))
	})
}

func remove(t *testing.T, p datastore.Pool, v datastore.Volume) {
	t.Helper()
	must(t, p.Delete(t.Context(), v, datastore.Disposal{}))
	must(t, p.Reclaim(t.Context()))
}

func deviceBytes(t *testing.T, device string) int64 {
	t.Helper()
	f, err := os.Open(device)
	must(t, err)
	defer f.Close()
	n, err := f.Seek(0, 2)
	must(t, err)
	return n
}
