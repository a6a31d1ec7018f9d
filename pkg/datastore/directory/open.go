package directory

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// The driver's folders and files are for root only.
const (
	dirMode  = 0o700
	fileMode = 0o600
)

// Place is the directory that a pool is, for types that bring their own.
type Place struct {
	// Path is absolute and holds no symbolic link.
	Path string
	// Initialize and AdoptFrom are as in v1alpha1.DirectorySpec; Settings is the field of the spec in which the
	// administrator says so, such as "spec.directory".
	Initialize bool
	AdoptFrom  string
	Settings   string
}

// Pool is an open directory.
type Pool interface {
	datastore.Pool
	// UUID is the one that the marker bears.
	UUID() string
	// InUse, Examine and Update are what datastore.InUse, datastore.Examine and a changed spec ask for.
	InUse(ctx context.Context, v datastore.Volume) (bool, error)
	Examine(ctx context.Context, v datastore.Volume) ([]v1alpha1.Problem, error)
	Update(d *v1alpha1.Datastore)
}

var _ Pool = (*pool)(nil)

// open is the type's New.
func open(ctx context.Context, c datastore.Config) (datastore.Pool, error) {
	settings := c.Datastore.Spec.Directory
	if settings == nil {
		return nil, fault.Wrap(fault.New(fault.Invalid, "spec.directory is missing"), "open datastore", c.Datastore.Name)
	}
	p, err := Open(ctx, c, Place{
		Path: settings.Path, Initialize: settings.Initialize, AdoptFrom: settings.AdoptFrom, Settings: "spec.directory",
	})
	if err != nil {
		return nil, fault.Wrap(err, "open datastore", c.Datastore.Name)
	}
	return p, nil
}

// Open opens a directory as the pool of a datastore of whatever type, as datastore.Type's New does.
func Open(ctx context.Context, c datastore.Config, place Place) (Pool, error) {
	p, err := openPool(ctx, c, place)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Judge tells whether a directory bears the marker of the datastore's pool, and changes nothing. The error is Open's: there is none
// for a directory that may become the pool.
func Judge(c datastore.Config, place Place) (marked bool, err error) {
	root, err := file.OpenRoot(place.Path)
	if err != nil {
		return false, err
	}
	defer root.Close()
	_, err = found(root, c, place)
	if fault.Is(err, fault.NotFound) {
		return false, mayMark(root, c, place, false)
	}
	return err == nil, err
}

func openPool(ctx context.Context, c datastore.Config, place Place) (p *pool, err error) {
	path := place.Path
	if filepath.Dir(path) == path {
		return nil, fault.New(fault.Invalid, "directory %q is not one of its own", path)
	}
	root, err := file.OpenRoot(path)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.Unavailable, "directory %s is not there; make it, or mount the disk that holds it", path)
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	fs, err := root.Filesystem()
	if err != nil {
		return nil, err
	}
	if err := fit(path, fs.Type); err != nil {
		return nil, err
	}
	if err := claim(root, c); err != nil {
		return nil, err
	}
	defer func() {
		if p == nil {
			c.Claims.Release(c.Datastore.Name)
		}
	}()
	m, err := settle(ctx, root, c, place, fs.ReadOnly)
	if err != nil {
		return nil, err
	}
	if !fs.ReadOnly && !c.Inspect {
		// Synced even where nothing is missing: a process that died may have made it just before.
		if err := errors.Join(ensureLayout(ctx, root), root.Sync(ownDir), root.Sync(".")); err != nil {
			return nil, err
		}
	}
	p = &pool{
		datastore: c.Datastore.Name, path: path, marker: m, tools: c.Tools,
		capabilities: Capabilities(c.Datastore.Spec), making: map[string]bool{},
		defaultWipe: c.Datastore.Spec.Volumes.Wipe, reclaiming: make(chan struct{}, 1),
	}
	p.bodies = p.formats()
	return p, nil
}

// volatile is the file system that is gone with the next boot: good for a trial, and reported.
const volatile = "tmpfs"

// fit refuses file systems on which images are not what they promise: on the network (another machine may
// write too), in layers, or without space that can be taken in advance.
func fit(path, fsType string) error {
	switch fsType {
	case "ext4", "xfs", "btrfs", volatile:
		return nil
	}
	return fault.New(fault.Precondition, "directory %s lies on a file system of type %s; type directory needs ext4, xfs or btrfs", path, fsType)
}

// claim keeps other datastores of this host off the directory, on whatever path.
func claim(root *file.Root, c datastore.Config) error {
	id, err := root.ID()
	if err != nil {
		return err
	}
	ancestors, err := root.Ancestors()
	if err != nil {
		return err
	}
	above := make([]string, len(ancestors))
	for i, a := range ancestors {
		above[i] = nameOf(a)
	}
	err = c.Claims.Take(c.Datastore.Name, nameOf(id), above)
	return fault.Wrap(err, "claim directory", root.Path())
}

func nameOf(id file.ID) string { return "directory " + id.String() }

// settle finds the pool's marker and judges it, or makes it where that is allowed.
func settle(ctx context.Context, root *file.Root, c datastore.Config, place Place, readOnly bool) (marker, error) {
	m, err := found(root, c, place)
	switch {
	case fault.Is(err, fault.NotFound) && !c.Inspect:
		if err := mayMark(root, c, place, readOnly); err != nil {
			return marker{}, err
		}
		if m, err = makeMarker(ctx, root, c); err != nil {
			return marker{}, err
		}
		return m, m.judgeAll(c, place)
	case err != nil:
		return marker{}, err
	case m.Machine == c.MachineID || c.Inspect:
		return m, nil
	}
	return m.adopt(ctx, root, c)
}

// found returns the directory's marker where it is that of the datastore's pool. None is fault.NotFound.
func found(root *file.Root, c datastore.Config, place Place) (marker, error) {
	m, err := readMarker(root)
	if fault.Is(err, fault.NotFound) {
		return marker{}, fault.New(fault.NotFound, "directory %s holds no marker (%s): it was never a pool, or its disk is not mounted", root.Path(), markerName)
	}
	if err != nil {
		return marker{}, err
	}
	return m, m.judgeAll(c, place)
}

// judgeAll is judge, the machine included.
func (m marker) judgeAll(c datastore.Config, place Place) error {
	if err := m.judge(c, place.Path); err != nil {
		return err
	}
	if m.Machine == c.MachineID || m.Machine == place.AdoptFrom {
		return nil
	}
	return another(fault.New(fault.Precondition, "directory %s is a pool of the machine with machine-id %s, this is %s; "+
		"if its disk was moved here for good, set %s.adoptFrom to the former", place.Path, m.Machine, c.MachineID, place.Settings))
}

// mayMark tells whether a directory without a marker may become the datastore's pool.
func mayMark(root *file.Root, c datastore.Config, place Place, readOnly bool) error {
	path := root.Path()
	if c.PoolUUID != "" {
		return notMounted(path, c.PoolUUID)
	}
	if readOnly {
		return fault.New(fault.Unavailable, "directory %s is on a file system that is mounted read-only, so it can't become a pool; "+
			"mount it writable", path)
	}
	if place.Initialize {
		return nil
	}
	blank, err := isBlank(root)
	if err != nil || blank {
		return err
	}
	return fault.New(fault.Precondition, "directory %s is not empty and holds no marker of ours; "+
		"give an empty one, or set %s.initialize to make a pool beside what is there", path, place.Settings)
}

// notMounted is the error of a directory that was a pool and has no marker now.
func notMounted(path, pool string) error {
	return fault.New(fault.Unavailable, "directory %s holds no marker (%s) of pool %s; is its disk not mounted? "+
		"Mount it, and it is used again; nothing was changed", path, markerName, pool)
}

// isBlank tells whether a directory holds nothing but what mkfs makes (lost+found) and what a broken
// makeMarker left.
func isBlank(root *file.Root) (bool, error) {
	for _, dir := range []struct {
		name    string
		allowed []string
	}{{".", []string{"lost+found", ownDir}}, {"lost+found", nil}, {ownDir, nil}} {
		names, err := root.ReadDir(dir.name, len(dir.allowed)+1)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if fault.Is(err, fault.Precondition) {
			return false, nil // no directory
		}
		if err != nil {
			return false, err
		}
		for _, n := range names {
			if !slices.Contains(dir.allowed, n) {
				return false, nil
			}
		}
	}
	return true, nil
}
