package tree

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/directory"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/loop"
	"github.com/datastore-csi/datastore-csi/pkg/linux/quota"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

func newPool(t *testing.T, path string) datastore.Pool {
	t.Helper()
	loops, err := loop.New(loop.Config{})
	must(t, err)
	p, err := directory.Type().New(t.Context(), datastore.Config{
		Datastore: &v1alpha1.Datastore{
			ObjectMeta: metav1.ObjectMeta{Name: "fast"},
			Spec: v1alpha1.DatastoreSpec{Type: v1alpha1.TypeDirectory, Directory: &v1alpha1.DirectorySpec{
				Path: path, Initialize: true, AdoptFrom: "",
			}},
		},
		ClusterID: "cluster-a", MachineID: "0123456789abcdef0123456789abcdef", Claims: &datastore.Claims{},
		Tools: datastore.Tools{Command: command.New(command.Config{}), Loop: loops, Now: time.Now, NewUUID: uuid.NewString},
	})
	must(t, err)
	return p
}

func subdirectory(id string, bytes int64) datastore.Volume {
	return datastore.Volume{
		ID: id, Name: id, UID: uuid.NewSHA1(uuid.Nil, []byte(id)).String(), ClusterID: "cluster-a", Bytes: bytes,
		Provisioning: v1alpha1.Thin, Format: v1alpha1.FormatSubdirectory, Access: v1alpha1.Filesystem,
		Quota: v1alpha1.QuotaRequired, Modes: []string{"SINGLE_NODE_WRITER"},
	}
}

func folderOf(path string, v datastore.Volume) string {
	return filepath.Join(path, "volumes", v.BackendName())
}

func create(t *testing.T, p datastore.Pool, v datastore.Volume) datastore.Opened {
	t.Helper()
	_, err := p.Create(t.Context(), v, nil, nil)
	must(t, err)
	opened, err := p.Open(t.Context(), v, false)
	must(t, err)
	must(t, os.Chmod(opened.Dir, 0o777)) // as kubelet does for a group
	return opened
}

// remove deletes volumes for good.
func remove(t *testing.T, p datastore.Pool, all ...datastore.Volume) {
	t.Helper()
	for _, v := range all {
		must(t, p.Delete(t.Context(), v, datastore.Disposal{Policy: v1alpha1.DeleteData}))
	}
	must(t, p.Reclaim(t.Context()))
}

// projectOf is the one that a volume's mark names.
func projectOf(t *testing.T, path string, v datastore.Volume) quota.ID {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(folderOf(path, v), "meta.json"))
	must(t, err)
	var mark struct{ Project quota.ID }
	must(t, json.Unmarshal(b, &mark))
	return mark.Project
}

// wantNoProjects waits until no project has usage or a limit: xfs counts a removed file until it has removed it.
func wantNoProjects(t *testing.T, path string) {
	t.Helper()
	top, err := os.Open(path)
	must(t, err)
	defer top.Close()
	for deadline := time.Now().Add(3 * time.Minute); ; {
		id, ok, err := quota.Next(top, 1)
		must(t, err)
		if !ok {
			return
		}
		if time.Now().After(deadline) {
			u, err := quota.Get(top, id)
			t.Fatalf("project %d is still there: %+v, %v", id, u, err)
		}
		runtime.GC() // closes what is still open of calls that died
		must(t, unix.Syncfs(int(top.Fd())))
	}
}

func TestASubdirectoryHasTheSizeOfItsVolume(t *testing.T) {
	onEach(t, func(t *testing.T, d disk, path string) {
		must(t, os.Chmod(path, 0o755))
		p := newPool(t, path)
		status, err := p.Status(t.Context())
		must(t, err)
		if !slices.Contains(status.Features, v1alpha1.SubdirectoryQuota) {
			t.Errorf("features %v", status.Features)
		}
		v := subdirectory("v-1", 16*mib)
		opened := create(t, p, v)
		target := t.TempDir()
		must(t, os.Chmod(filepath.Dir(target), 0o755))
		must(t, unix.Mount(opened.Dir, target, "", unix.MS_BIND, ""))
		if took := asUser(t, target, 32*mib); took > 16*mib || took < 15*mib {
			t.Errorf("%d bytes could be written", took)
		}
		if total := sizeOf(t, target); total != 16*mib {
			t.Errorf("its user sees %d bytes", total)
		}
		status, err = p.Status(t.Context())
		must(t, err)
		spares := slices.ContainsFunc(status.Findings, func(f v1alpha1.Finding) bool { return f.Reason == "QuotaSparesPrivileged" })
		if spares != (d.name == "ext4") {
			t.Errorf("findings %+v", status.Findings)
		}
		if status, err := p.Status(t.Context()); err != nil || status.Own < 15*mib || status.Own > 17*mib {
			t.Errorf("own are %d bytes, %v", status.Own, err)
		}
		_, err = p.Expand(t.Context(), subdirectory("v-1", 24*mib))
		must(t, err)
		if took := asUser(t, target, 32*mib); took > 24*mib || took < 23*mib {
			t.Errorf("after growing %d bytes could be written", took)
		}
		if total := sizeOf(t, target); total != 24*mib {
			t.Errorf("after growing its user sees %d bytes", total)
		}
		wantKind(t, p.Delete(t.Context(), v, datastore.Disposal{}), fault.Precondition, target)
		must(t, unix.Unmount(target, 0))
		remove(t, p, v)
		wantNoProjects(t, path)
	})
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	var s unix.Statfs_t
	must(t, unix.Statfs(path, &s))
	return int64(s.Blocks) * s.Bsize
}

func TestAProjectOfSomebodyElseIsNeverTaken(t *testing.T) {
	onEach(t, func(t *testing.T, d disk, path string) {
		p := newPool(t, path)
		v := subdirectory("v-1", 16*mib)
		create(t, p, v)
		first := projectOf(t, path, v)
		remove(t, p, v)
		wantNoProjects(t, path)
		create(t, p, v)
		if again := projectOf(t, path, v); again != first {
			t.Errorf("project %d, at first %d", again, first)
		}
		remove(t, p, v)
		wantNoProjects(t, path)
		// Somebody's directory without limit, then somebody's limit without a directory.
		foreign := folder(t, path, "foreign")
		must(t, quota.SetProject(t.Context(), foreign, first))
		create(t, p, v)
		second := projectOf(t, path, v)
		remove(t, p, v)
		must(t, quota.SetLimit(t.Context(), foreign, second, mib))
		create(t, p, v)
		if third := projectOf(t, path, v); second == first || third == first || third == second {
			t.Errorf("projects %d, %d, %d", first, second, third)
		}
		remove(t, p, v)
		if u, err := quota.Get(foreign, second); u.LimitBytes != mib || err != nil {
			t.Errorf("somebody's limit is %+v, %v", u, err)
		}
	})
}

func TestVolumesMadeAtOnceHaveProjectsOfTheirOwn(t *testing.T) {
	onEach(t, func(t *testing.T, d disk, path string) {
		p := newPool(t, path)
		var all []datastore.Volume
		var g errgroup.Group
		for i := range 40 {
			v := subdirectory(fmt.Sprintf("v-%d", i), 16*mib)
			all = append(all, v)
			g.Go(func() error {
				_, err := p.Create(t.Context(), v, nil, nil)
				return err
			})
		}
		must(t, g.Wait())
		seen := map[quota.ID]bool{}
		for _, v := range all {
			seen[projectOf(t, path, v)] = true
		}
		if len(seen) != len(all) {
			t.Errorf("%d volumes have %d projects", len(all), len(seen))
		}
		remove(t, p, all...)
		wantNoProjects(t, path)
	})
}

func TestALimitIsUpheld(t *testing.T) {
	onEach(t, func(t *testing.T, d disk, path string) {
		p := newPool(t, path)
		v := subdirectory("v-1", 16*mib)
		opened := create(t, p, v)
		data, err := os.Open(opened.Dir)
		must(t, err)
		id := projectOf(t, path, v)
		must(t, quota.SetLimit(t.Context(), data, id, 0))
		_, err = p.Open(t.Context(), v, false)
		must(t, err)
		if u, err := quota.Get(data, id); u.LimitBytes != 16*mib || err != nil {
			t.Errorf("usage %+v, %v", u, err)
		}
		must(t, quota.SetProject(t.Context(), data, id+1))
		_, err = p.Open(t.Context(), v, false)
		wantKind(t, err, fault.Precondition, "chattr")
		must(t, quota.SetProject(t.Context(), data, id))
		must(t, data.Close())
		for _, options := range []string{d.account, ""} {
			must(t, unix.Unmount(path, 0))
			must(t, unix.Mount(d.device, path, d.name, 0, options))
			_, err = p.Open(t.Context(), v, false)
			wantKind(t, err, fault.Unavailable, "prjquota")
			_, err = p.Create(t.Context(), subdirectory("v-2", mib), nil, nil)
			wantKind(t, err, fault.Invalid, "prjquota", "quota: none")
			if status, err := p.Status(t.Context()); err != nil || slices.Contains(status.Features, v1alpha1.SubdirectoryQuota) {
				t.Errorf("features %v, %v", status.Features, err)
			}
		}
		must(t, unix.Unmount(path, 0))
		must(t, unix.Mount(d.device, path, d.name, 0, d.enforce))
		_, err = p.Open(t.Context(), v, false)
		must(t, err)
		remove(t, p, v)
	})
}

// What dies at each step of making, growing and removing leaves no limit behind.
func TestNoDeathLeavesALimitBehind(t *testing.T) {
	onEach(t, func(t *testing.T, d disk, path string) {
		v := subdirectory("v-1", 16*mib)
		dying(t, func(ctx context.Context) {
			_, err := newPool(t, path).Create(ctx, v, nil, nil)
			must(t, err)
		})
		dying(t, func(ctx context.Context) {
			_, err := newPool(t, path).Expand(ctx, subdirectory("v-1", 24*mib))
			must(t, err)
		})
		opened, err := newPool(t, path).Open(t.Context(), v, false)
		must(t, err)
		if total := sizeOf(t, opened.Dir); total != 24*mib || opened.Bytes != 24*mib {
			t.Errorf("opened %+v, %d bytes", opened, total)
		}
		dying(t, func(ctx context.Context) {
			p := newPool(t, path)
			must(t, p.Delete(ctx, v, datastore.Disposal{}))
			must(t, p.Reclaim(ctx))
		})
		wantNoProjects(t, path)
		// One that is never made again.
		n := 0
		ctx := step.WithHook(t.Context(), func(string, string) { n++ })
		_, err = newPool(t, path).Create(ctx, v, nil, nil)
		must(t, err)
		remove(t, newPool(t, path), v)
		for last := 1; last <= n; last++ {
			once(t, last, func(ctx context.Context) { _, _ = newPool(t, path).Create(ctx, v, nil, nil) })
			remove(t, newPool(t, path), v)
		}
		wantNoProjects(t, path)
	})
}

// once does work that ends before its nth step, as if the process died there, and tells whether it was done before.
func once(t *testing.T, n int, work func(context.Context)) (done bool) {
	t.Helper()
	type death struct{}
	steps := 0
	ctx := step.WithHook(t.Context(), func(string, string) {
		if steps++; steps == n {
			panic(death{})
		}
	})
	defer func() {
		if r := recover(); r != nil && r != (death{}) {
			panic(r)
		}
	}()
	work(ctx)
	return true
}

// dying does work that ends before its first step, then before its second, and so on, until it is done.
func dying(t *testing.T, work func(context.Context)) {
	t.Helper()
	for n := 1; !once(t, n, work); n++ {
	}
}
