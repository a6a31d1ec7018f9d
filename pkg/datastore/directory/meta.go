package directory

import (
	"cmp"
	"context"
	"encoding/json"
	"path"
	"strings"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

const (
	metaName = "meta.json"
	// maxMeta bounds a mark in bytes. Labels and parameters are bounded by their record.
	maxMeta = 4 << 20
)

// meta is a volume's mark: whose it is, and what rebuilds its record.
type meta struct {
	Layout       int                      `json:"layout"`
	ID           string                   `json:"id"`
	Name         string                   `json:"name"`
	UID          string                   `json:"uid"`
	Cluster      string                   `json:"cluster"`
	Bytes        int64                    `json:"bytes"`
	Provisioning v1alpha1.Provisioning    `json:"provisioning"`
	Format       v1alpha1.VolumeFormat    `json:"format"`
	Access       v1alpha1.AccessType      `json:"access"`
	Modes        []string                 `json:"modes"`
	Filesystem   *v1alpha1.FilesystemSpec `json:"filesystem,omitempty"`
	// SectorSize is the logical sector size of the loop device, in bytes. It never changes: the file
	// system was made for it.
	SectorSize int `json:"sectorSize"`
	// Quota says whether a sub-directory's size must be enforced, Project is the project that bears its limit, or 0.
	Quota      v1alpha1.QuotaPolicy `json:"quota,omitempty"`
	Project    uint32               `json:"project,omitempty"`
	Labels     map[string]string    `json:"labels,omitempty"`
	Parameters map[string]string    `json:"parameters,omitempty"`
	Created    time.Time            `json:"created"`

	OnDelete v1alpha1.DeletePolicy `json:"onDelete,omitempty"`
	Wipe     v1alpha1.WipePolicy   `json:"wipe,omitempty"`

	Snapshot bool `json:"snapshot,omitempty"`
	// Source of a copy or snapshot, and the instant of whose bytes it was made.
	Source  *origin    `json:"source,omitempty"`
	TakenAt *time.Time `json:"takenAt,omitempty"`
	// Promised is how many bytes a snapshot can take at most.
	Promised int64 `json:"promised,omitempty"`
	// Family is the UID of the volume that all of those descend from which may share blocks with this one.
	Family string `json:"family,omitempty"`

	// Retained and Archived are when the volume was deleted, and its data kept.
	Retained *time.Time `json:"retained,omitempty"`
	Archived *time.Time `json:"archived,omitempty"`
}

// origin names what a copy was made of.
type origin struct {
	ID       string `json:"id"`
	UID      string `json:"uid"`
	Snapshot bool   `json:"snapshot,omitempty"`
}

// family is what those have in common that may share blocks.
func (m meta) family() string { return cmp.Or(m.Family, m.UID) }

// thick tells whether all space is allocated that the size says.
func (m meta) thick() bool { return m.Provisioning == v1alpha1.Thick && !m.Snapshot }

// stamp says what instant a copy is of.
func (m *meta) stamp(at time.Time) {
	at = at.UTC()
	m.TakenAt = &at
}

func metaOf(v datastore.Volume, bytes int64) meta {
	return meta{
		Layout: layout, ID: v.ID, Name: v.Name, UID: v.UID, Cluster: v.ClusterID, Bytes: bytes,
		Provisioning: v.Provisioning, Format: v.Format, Access: v.Access, Modes: v.Modes, Filesystem: v.Filesystem,
		Quota: v.Quota, Labels: v.Labels, Parameters: v.Parameters, Created: v.Created.UTC(),
		OnDelete: v.OnDelete, Wipe: v.Wipe, Snapshot: v.Snapshot,
	}
}

// made is what Create and Expand answer for a volume with that mark.
func (m meta) made(dir string) datastore.Made {
	made := datastore.Made{Bytes: m.Bytes, Location: dir, Identity: m.UID}
	if m.Snapshot {
		made.Promised = m.Promised
		if m.TakenAt != nil {
			made.TakenAt = *m.TakenAt
		}
	}
	return made
}

// readMark returns the mark in a folder. None is fault.NotFound, one that can't be understood
// fault.Precondition.
func readMark(root *file.Root, dir string) (meta, error) {
	data, err := root.ReadFile(dir+"/"+metaName, maxMeta)
	if err != nil {
		return meta{}, err
	}
	return parseMeta(data, path.Join(root.Path(), dir, metaName))
}

// newMark writes the mark of what is being made, in a folder where nobody looks yet.
func newMark(ctx context.Context, root *file.Root, dir string, m meta) error {
	data, err := encode(m)
	if err != nil {
		return err
	}
	return root.WriteNew(ctx, dir+"/"+metaName, data, fileMode)
}

// writeMark replaces a mark, at once and durably.
func writeMark(ctx context.Context, root *file.Root, dir string, m meta) error {
	data, err := encode(m)
	if err != nil {
		return err
	}
	return root.WriteFile(ctx, dir+"/"+metaName, data, fileMode)
}

// find returns the mark of a volume that is there and is the one asked for. None of that name is
// fault.NotFound; something that doesn't bear the volume's mark is fault.Precondition.
func find(root *file.Root, v datastore.Volume) (meta, error) {
	dir := folder(v)
	info, err := root.Stat(dir)
	if err != nil {
		return meta{}, err
	}
	full := path.Join(root.Path(), dir)
	if !info.Mode.IsDir() {
		return meta{}, fault.New(fault.Precondition, "%s is no directory (%s), so it is not the volume; it was left alone", full, info.Mode.Type())
	}
	m, err := readMark(root, dir)
	if fault.Is(err, fault.NotFound) {
		return meta{}, fault.New(fault.Precondition, "%s bears no mark (%s), so it is not known to be the volume; it was left alone: "+
			"restore the mark, or move the directory away", full, metaName)
	}
	if err != nil {
		return meta{}, err
	}
	if !m.of(v) {
		return meta{}, fault.New(fault.Precondition, "%s bears the mark of volume %q, UID %q, of cluster %q; asked for was %q, UID %q, of cluster %q; it was left alone",
			full, shorten(m.ID), shorten(m.UID), shorten(m.Cluster), v.ID, v.UID, v.ClusterID)
	}
	return m, nil
}

// of tells whether a mark is the volume's.
func (m meta) of(v datastore.Volume) bool {
	return m.ID == v.ID && m.UID == v.UID && m.Cluster == v.ClusterID && m.Snapshot == v.Snapshot
}

func parseMeta(data []byte, path string) (meta, error) {
	var m meta
	if err := json.Unmarshal(data, &m); err != nil {
		return meta{}, fault.New(fault.Precondition, "the volume's mark %s can't be read: %w; it was left alone", path, err)
	}
	if m.Layout != layout {
		return meta{}, fault.New(fault.Precondition, "the volume's mark %s has layout %d, this version knows %d; use the version that made it",
			path, m.Layout, layout)
	}
	return m, nil
}

// check refuses volumes that this pool can't have, hostile names first.
func (p *pool) check(v datastore.Volume) error {
	if err := checkNames(v); err != nil {
		return err
	}
	if v.ClusterID != p.marker.Cluster {
		return fault.New(fault.Precondition, "the volume is of cluster %q, the datastore of cluster %q", shorten(v.ClusterID), p.marker.Cluster)
	}
	return nil
}

// maxID and maxUID bound what a name on the storage is made of, in bytes.
const (
	maxID  = 63
	maxUID = 64
)

func checkNames(v datastore.Volume) error {
	if !plain(v.ID, maxID) {
		return fault.New(fault.Invalid, "volume ID %q is refused: it must be 1 to %d letters, digits, '-', '_' and '.', the first a letter or digit",
			shorten(v.ID), maxID)
	}
	if !plain(v.UID, maxUID) {
		return fault.New(fault.Invalid, "record UID %q of volume %q is refused: it must be 1 to %d letters, digits and '-'", shorten(v.UID), v.ID, maxUID)
	}
	return nil
}

// plain tells whether s is a name that means nothing special to anybody.
func plain(s string, limit int) bool {
	if s == "" || len(s) > limit || strings.ContainsRune("-_.", rune(s[0])) {
		return false
	}
	for _, r := range s {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("-_.", r):
		default:
			return false
		}
	}
	return true
}

// shorten bounds what of a stranger's text goes into an error.
func shorten(s string) string {
	const shown = 64
	if len(s) > shown {
		return s[:shown] + "..."
	}
	return s
}
