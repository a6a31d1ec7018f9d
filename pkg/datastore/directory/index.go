package directory

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

// entry is a folder in volumes/, snapshots/, tmp/ or trash/ that counts as the pool's own: what is retained doesn't.
type entry struct {
	dir string
	// family is what those have in common that may share blocks: the first digits of a UID. Two families that have
	// the same ones are measured as one. "" is half a copy, which may share blocks with anybody.
	family string
	// image is the volume's; for other formats it is empty.
	image file.Info
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
	family   string // "" is the volume's own
	retained bool
	seen     uint64
}

// scan looks at all folders and returns them by format; what lies there and is no folder, or foreign, is passed over.
func (x *index) scan(ctx context.Context, root *file.Root) (map[v1alpha1.VolumeFormat][]entry, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.known == nil {
		x.known = map[string]fact{}
	}
	x.scans++
	all := map[v1alpha1.VolumeFormat][]entry{}
	for _, parent := range []string{volumesDir, snapshotsDir, tmpDir, trashDir} {
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
			x.add(root, all, parent, name, infos[0], infos[1])
		}
	}
	for dir, f := range x.known {
		if f.seen != x.scans {
			delete(x.known, dir)
		}
	}
	return all, nil
}

func (x *index) add(root *file.Root, all map[v1alpha1.VolumeFormat][]entry, parent, name string, mark, image file.Info) {
	e := entry{dir: parent + "/" + name}
	if mark.Links > 0 {
		f := x.fact(root, e.dir, mark)
		if f.retained && (parent == volumesDir || parent == snapshotsDir) {
			return
		}
		e.family = f.family
		if e.family == "" {
			e.family = digits(name)
		}
	}
	format := v1alpha1.FormatSubdirectory
	if image.Links > 0 && image.Mode.IsRegular() {
		format, e.image = v1alpha1.FormatImage, image
	}
	all[format] = append(all[format], e)
}

// fact returns what a mark says, read again where the file is another one.
func (x *index) fact(root *file.Root, dir string, mark file.Info) fact {
	f, ok := x.known[dir]
	if !ok || f.inode != mark.Inode || !f.changed.Equal(mark.Changed) {
		f = fact{inode: mark.Inode, changed: mark.Changed}
		// One that can't be read now, or makes no sense, is counted as any other; it is for List to tell.
		if data, err := root.ReadFile(dir+"/"+metaName, maxMeta); err == nil && telling(data) {
			if m, err := parseMeta(data, dir); err == nil {
				f.retained = m.Retained != nil
				if m.Family != "" {
					f.family = shortUID(m.Family)
				}
			}
		}
	}
	f.seen = x.scans
	x.known[dir] = f
	return f
}

// telling tells whether a mark may say something that counts here. Most don't, and are not decoded.
func telling(mark []byte) bool {
	return bytes.Contains(mark, []byte(`"family":`)) || bytes.Contains(mark, []byte(`"retained":`))
}

// digits are those of the record's UID in a folder's name.
func digits(name string) string {
	name, _, _ = strings.Cut(name[strings.LastIndexByte(name, '-')+1:], ".")
	return name
}

// shortUID is what digits finds in the folder's name of a volume with that UID.
func shortUID(uid string) string {
	return digits(datastore.Volume{ID: "x", UID: uid}.BackendName())
}
