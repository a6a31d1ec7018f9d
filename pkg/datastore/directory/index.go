package directory

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// entry is a folder that counts as the pool's own: a volume or snapshot that bears our mark in its place, or is being
// made. All of them are promised. What waits for its removal, is retained, archived or unclear isn't, and what it takes
// is nobody's to give.
type entry struct {
	dir string
	// family is what those have in common that may share blocks: the first digits of a UID. Two families that have
	// the same ones are measured as one. "" is half a copy, which may share blocks with anybody.
	family string
	// allocated is what the volume's image takes, in bytes, and modified when it was written to last; other formats
	// have none.
	allocated int64
	modified  time.Time
}

// index remembers of each mark what Status needs of it, so that no mark is read twice. It may be used by many calls.
type index struct {
	mu    sync.Mutex
	known map[string]fact // by folder
	scans uint64
}

// fact is what a mark says, for as long as it is the same file.
type fact struct {
	inode    uint64
	changed  time.Time
	family   string
	retained bool
	ours     bool // the mark of our cluster, in its place
	seen     uint64
}

// scan looks at all folders and returns them by format; what lies there and is no folder, or foreign, is passed over.
func (p *pool) scan(ctx context.Context, root *file.Root) (map[v1alpha1.VolumeFormat][]entry, error) {
	x := &p.index
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.known == nil {
		x.known = map[string]fact{}
	}
	x.scans++
	all := map[v1alpha1.VolumeFormat][]entry{}
	for _, parent := range []string{volumesDir, snapshotsDir, tmpDir} {
		names, err := list(root, parent)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			infos, err := root.Look(parent+"/"+name, metaName, imageName)
			if foreign(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			p.count(root, all, parent, name, infos[0], infos[1])
		}
	}
	for dir, f := range x.known {
		if f.seen != x.scans {
			delete(x.known, dir)
		}
	}
	return all, nil
}

// count adds a folder to the pool's own if it is.
func (p *pool) count(root *file.Root, all map[v1alpha1.VolumeFormat][]entry, parent, name string, mark, image file.Info) {
	e := entry{dir: parent + "/" + name}
	switch {
	case parent == tmpDir && !p.makes(name):
		return // it was given up, or waits to be gone on with
	case mark.Links > 0:
		f := p.index.fact(root, e.dir, mark, p.marker.Cluster)
		if parent != tmpDir && (f.retained || !f.ours) {
			return
		}
		e.family = f.family
	case parent != tmpDir:
		return
	}
	format := v1alpha1.FormatSubdirectory
	if image.Links > 0 && image.Mode.IsRegular() {
		format, e.allocated, e.modified = v1alpha1.FormatImage, image.Allocated, image.Modified
	}
	all[format] = append(all[format], e)
}

// makes tells whether a call of Create or Snapshot works on a name in tmp/.
func (p *pool) makes(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.making[name]
}

// summary is what counts here of a mark.
type summary struct {
	Layout   int             `json:"layout"`
	ID       string          `json:"id"`
	UID      string          `json:"uid"`
	Cluster  string          `json:"cluster"`
	Snapshot bool            `json:"snapshot"`
	Family   string          `json:"family"`
	Retained json.RawMessage `json:"retained"`
}

// fact returns what a mark says, read again where the file is another one. One that can't be read now, or makes no
// sense, isn't ours; it is for List to tell.
func (x *index) fact(root *file.Root, dir string, mark file.Info, cluster string) fact {
	f, ok := x.known[dir]
	if !ok || f.inode != mark.Inode || !f.changed.Equal(mark.Changed) {
		f = fact{inode: mark.Inode, changed: mark.Changed}
		var m summary
		data, err := root.ReadFile(dir+"/"+metaName, maxMeta)
		if err == nil && json.Unmarshal(data, &m) == nil && m.Layout == layout {
			v := datastore.Volume{ID: m.ID, UID: m.UID, Snapshot: m.Snapshot}
			f.ours = m.Cluster == cluster && checkNames(v) == nil && folder(v) == dir
			f.retained = m.Retained != nil
			f.family = shortUID(cmp.Or(m.Family, m.UID))
		}
	}
	f.seen = x.scans
	x.known[dir] = f
	return f
}

// shortUID is as much of a UID as tells families apart.
func shortUID(uid string) string {
	name := datastore.Volume{UID: uid}.BackendName()
	return strings.Clone(name[1:])
}
