package directory

import (
	"context"
	"path"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// The health of a volume, by its names in the CSI specification (VolumeHealthErrorType).
const (
	dataLoss     v1alpha1.VolumeHealth = "DATA_LOSS"
	inaccessible v1alpha1.VolumeHealth = "INACCESSIBLE"
)

// List reads the mark of each folder in volumes/, snapshots/, trash/ and archived/, and looks at the bytes beside it
// from outside. What is being made, in tmp/, is not there yet. One that can't be read is among them as
// unclear, and hides no other.
func (p *pool) List(ctx context.Context) ([]datastore.Found, error) {
	found, err := p.listAll(ctx)
	return found, fault.Wrap(err, "list datastore", p.datastore)
}

func (p *pool) listAll(ctx context.Context) ([]datastore.Found, error) {
	root, err := p.enter()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var all []datastore.Found
	for _, place := range []struct {
		dir   string
		state datastore.FoundState
	}{
		{volumesDir, datastore.FoundWhole},
		{snapshotsDir, datastore.FoundWhole},
		{trashDir, datastore.FoundRemainder},
		{archivedDir, datastore.FoundArchived},
	} {
		names, err := list(root, place.dir)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			f := p.look(root, path.Join(place.dir, name), place.state)
			if f != nil {
				all = append(all, *f)
			}
		}
	}
	return all, nil
}

// look returns what is in a folder; nil where it is gone meanwhile.
func (p *pool) look(root *file.Root, dir string, state datastore.FoundState) *datastore.Found {
	f := &datastore.Found{
		Volume: datastore.Volume{ID: path.Base(dir), Snapshot: path.Dir(dir) == snapshotsDir},
		State:  datastore.FoundUnclear, Location: dir, Datastore: p.marker.Datastore,
	}
	m, problem := p.judge(root, dir, state)
	if problem != nil {
		if _, err := root.Stat(dir); fault.Is(err, fault.NotFound) {
			return nil
		}
		if state == datastore.FoundRemainder { // the mark goes before the rest
			f.State = state
			return f
		}
		f.Problems = []v1alpha1.Problem{*problem}
		f.Allocated = takes(root, dir)
		return f
	}
	f.Volume, f.State, f.Made = m.volume(), state, m.made(dir)
	if m.Source != nil {
		f.Source = &datastore.Volume{ID: m.Source.ID, UID: m.Source.UID, ClusterID: m.Cluster, Snapshot: m.Source.Snapshot}
	}
	if state == datastore.FoundWhole && m.Retained != nil {
		f.State = datastore.FoundRetained
	}
	b, err := p.body(m.Format)
	if err != nil {
		f.State, f.Problems, f.Allocated = datastore.FoundUnclear, []v1alpha1.Problem{unreadable(root, dir, err)}, takes(root, dir)
		return f
	}
	if f.Allocated, err = b.allocated(root, dir, m); err != nil {
		f.Allocated = 0 // the problems say why
	}
	if state == datastore.FoundRemainder {
		return f // its bytes are going
	}
	if f.Problems, err = b.problems(root, dir, m); err != nil {
		f.Problems = append(f.Problems, problemOf(err))
	}
	return f
}

// problemOf says what an error means that came of looking at a volume's bytes.
func problemOf(err error) v1alpha1.Problem {
	switch fault.KindOf(err) {
	case fault.DataLoss:
		return v1alpha1.Problem{Status: dataLoss, Reason: "DataMissing", Message: err.Error()}
	case fault.Precondition: // a mount point, a link
		return v1alpha1.Problem{Status: inaccessible, Reason: "DataReplaced", Message: err.Error() + "; put back what was there"}
	}
	return v1alpha1.Problem{
		Status: inaccessible, Reason: "Unreadable", Message: err.Error() + "; look at the kernel's log and at the disk below",
	}
}

// takes is what the files in a folder take, as far as that can be told at once.
func takes(root *file.Root, dir string) int64 {
	names, err := list(root, dir)
	if err != nil {
		return 0
	}
	var sum int64
	for _, name := range names[:min(len(names), mostFiles)] {
		if info, err := root.Stat(dir + "/" + name); err == nil && info.Mode.IsRegular() {
			sum += info.Allocated
		}
	}
	return sum
}

// mostFiles bounds how many files of a folder that nobody knows are looked at. Ours hold three.
const mostFiles = 1000

// judge returns the mark in a folder, or what is wrong with it.
func (p *pool) judge(root *file.Root, dir string, state datastore.FoundState) (meta, *v1alpha1.Problem) {
	m, err := readMark(root, dir)
	full := path.Join(root.Path(), dir)
	wrong := func(reason, message string) (meta, *v1alpha1.Problem) {
		return meta{}, &v1alpha1.Problem{Status: inaccessible, Reason: reason, Message: message}
	}
	switch {
	case fault.Is(err, fault.NotFound):
		return wrong("MarkMissing", full+" bears no mark ("+metaName+"), so nobody knows whose it is; restore the mark, or move the directory away")
	case err != nil:
		u := unreadable(root, dir, err)
		return meta{}, &u
	case m.Cluster != p.marker.Cluster:
		return wrong("ForeignMark", full+" bears the mark of volume "+shorten(m.ID)+" of cluster "+shorten(m.Cluster)+
			", the datastore is of cluster "+p.marker.Cluster+"; it was left alone: move it to where it belongs")
	case checkNames(m.volume()) != nil:
		return wrong("MarkUnreadable", full+" bears a mark with a name that can't be: "+checkNames(m.volume()).Error())
	case state == datastore.FoundWhole && folder(m.volume()) != dir:
		return wrong("Misplaced", full+" bears the mark of "+kindOf(m.volume())+" "+m.ID+", whose place is "+folder(m.volume())+
			"; if somebody copied it by hand, move the copy out of the datastore")
	}
	return m, nil
}

func unreadable(root *file.Root, dir string, err error) v1alpha1.Problem {
	return v1alpha1.Problem{
		Status: inaccessible, Reason: "MarkUnreadable",
		Message: path.Join(root.Path(), dir) + " can't be told: " + err.Error() + "; restore its mark from a backup",
	}
}

// volume is what the mark says of one.
func (m meta) volume() datastore.Volume {
	v := datastore.Volume{
		ID: m.ID, Name: m.Name, UID: m.UID, ClusterID: m.Cluster, Labels: m.Labels, Bytes: m.Bytes,
		Provisioning: m.Provisioning, Format: m.Format, Access: m.Access, Modes: m.Modes, Filesystem: m.Filesystem,
		Quota: m.Quota, Parameters: m.Parameters, Created: m.Created, OnDelete: m.OnDelete, Wipe: m.Wipe, Snapshot: m.Snapshot,
	}
	if m.Snapshot && m.Source != nil {
		v.SourceID = m.Source.ID
	}
	return v
}
