package standalone

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
)

// burst is how long the file must stay the same before it is read: an editor writes more than once.
const burst = 200 * time.Millisecond

// sweepEvery is how often datastores are looked for that stayed for their last volumes.
const sweepEvery = 30 * time.Second

// documents brings the file of Datastore documents into the store, and keeps it so.
type documents struct {
	path  string
	store *store.Store
	// valid is told whether the file that was read last is in force.
	valid func(bool)
	// inFile are the datastores of the file that is in force; nil before there is one.
	inFile map[string]bool
	// seen says which version of the file was read last.
	seen stamp
	// again has the file read anew, whatever it says.
	again chan struct{}
}

// stamp tells one version of a file from another.
type stamp struct {
	modified time.Time
	size     int64
	inode    uint64
}

func (f *documents) stamp() stamp {
	info, err := os.Stat(f.path)
	if err != nil {
		return stamp{}
	}
	s := stamp{modified: info.ModTime(), size: info.Size()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	return s
}

// start reads the file for the first time. A file with something wrong in it changes nothing where the
// store has datastores already: the last good state goes on. Where it has none, there is no state to keep,
// so what is valid starts, and what is not is reported; a file of which nothing can be used is an error.
func (f *documents) start(ctx context.Context) error {
	known, err := f.store.Datastores.List(ctx)
	if err != nil {
		return err
	}
	good, bad := f.read()
	f.valid(bad == nil || len(known) == 0 && errors.Is(bad, parts.ErrEmpty))
	switch {
	case bad == nil, len(known) == 0 && errors.Is(bad, parts.ErrEmpty):
		return f.apply(ctx, good)
	case len(known) > 0:
		klog.FromContext(ctx).Error(bad, "The datastores stay as they were: the file is not valid", "file", f.path)
		return nil
	case len(good) == 0:
		return fmt.Errorf("read the datastores: %w", bad)
	}
	klog.FromContext(ctx).Error(bad, "Some datastores are left out: their documents are not valid", "file", f.path)
	return f.apply(ctx, good)
}

// read returns the file's valid datastores, and all that is wrong with it.
func (f *documents) read() ([]*v1alpha1.Datastore, error) {
	f.seen = f.stamp()
	return parts.ReadDocuments(f.path)
}

// reload reads the file again and applies it as a whole, or not at all.
func (f *documents) reload(ctx context.Context) {
	log := klog.FromContext(ctx)
	good, err := f.read()
	f.valid(err == nil)
	if err != nil {
		log.Error(err, "The datastores stay as they were: the file is not valid", "file", f.path)
		return
	}
	if err := f.apply(ctx, good); err != nil {
		log.Error(err, "Applying the datastores failed", "file", f.path)
		return
	}
	log.Info("Applied the datastores", "file", f.path, "datastores", len(good))
}

// apply makes the store's datastores those of the file. One that the file no longer has and that still has
// volumes stays for them, cordoned.
func (f *documents) apply(ctx context.Context, want []*v1alpha1.Datastore) error {
	known, err := f.store.Datastores.List(ctx)
	if err != nil {
		return err
	}
	f.inFile = make(map[string]bool, len(want))
	var errs []error
	for _, d := range want {
		f.inFile[d.Name] = true
		errs = append(errs, parts.PutDatastore(ctx, f.store.Datastores, d), controller.SetHeld(ctx, f.store.Datastores, d.Name, nil, ""))
	}
	for _, d := range known {
		if !f.inFile[d.Name] {
			errs = append(errs, f.remove(ctx, d))
		}
	}
	return errors.Join(errs...)
}

// sweep removes the datastores that stayed only for volumes which are gone by now.
func (f *documents) sweep(ctx context.Context) {
	known, err := f.store.Datastores.List(ctx)
	if err != nil || f.inFile == nil {
		return
	}
	for _, d := range known {
		if f.inFile[d.Name] {
			continue
		}
		if err := f.remove(ctx, d); err != nil {
			klog.FromContext(ctx).Error(err, "Removing a datastore that left the file failed", "datastore", d.Name)
		}
	}
}

// remove ends a datastore that has no volumes and no snapshots. One that is being made meanwhile is refused by
// its agent, which finds no datastore for it.
func (f *documents) remove(ctx context.Context, d *v1alpha1.Datastore) error {
	has, err := controller.LieOn(ctx, f.store, d.Name)
	if err != nil {
		return err
	}
	if len(has) == 0 {
		err := f.store.Datastores.Delete(ctx, d.Name, string(d.UID))
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		return err
	}
	if err := controller.SetHeld(ctx, f.store.Datastores, d.Name, has, ", or put the datastore back into the file"); err != nil || d.Spec.Maintenance == v1alpha1.Cordon {
		return err
	}
	_, err = store.Change(ctx, f.store.Datastores, d.Name, func(now *v1alpha1.Datastore) error {
		now.Spec.Maintenance = v1alpha1.Cordon
		return nil
	})
	return err
}

// watch reloads the file whenever it changes, until ctx ends. The folder is watched, not the file: tools
// replace files, and a mounted configuration is switched by a symbolic link beside them.
func (f *documents) watch(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.path, err)
	}
	defer w.Close() //nolint:errcheck // the process lets go of it anyway
	if err := w.Add(filepath.Dir(f.path)); err != nil {
		return fmt.Errorf("watch %s: %w", f.path, err)
	}
	settle := time.NewTimer(burst)
	defer settle.Stop()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	waiting, last := true, stamp{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.Errors:
			klog.FromContext(ctx).Error(err, "Watching the datastores' file missed something; it is looked at again", "file", f.path)
		case <-w.Events:
		case <-f.again:
			f.reload(ctx)
			f.sweep(ctx)
			continue
		case <-sweep.C:
			f.sweep(ctx)
			continue
		case <-settle.C:
			waiting = false
			now := f.stamp()
			if now == f.seen {
				continue
			}
			if now == last {
				f.reload(ctx)
				continue
			}
			last = now // it may still be written
		}
		// The wait is not begun anew by events of other files in the folder.
		if !waiting {
			settle.Reset(burst)
			waiting = true
		}
	}
}
