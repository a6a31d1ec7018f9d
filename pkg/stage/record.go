package stage

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

const (
	recordVersion = 1
	recordSuffix  = ".json"
	recordMode    = 0o600
	// maxRecordBytes bounds a stage record: a volume may be published at many paths of up to 4 KiB.
	maxRecordBytes = 4 << 20
	// maxStagedID bounds the IDs that can have a stage record: those of DNS labels.
	maxStagedID = 63
)

// record is a stage record: what this host does with one volume.
type record struct {
	Version int `json:"version"`
	// ID, UID and ClusterID name the volume, Datastore its pool: enough to close it when its record
	// is gone.
	ID        string `json:"id"`
	UID       string `json:"uid"`
	ClusterID string `json:"clusterID"`
	Datastore string `json:"datastore"`
	// BootID is the boot in which the volume was staged: mounts and devices do not survive it.
	BootID     string              `json:"bootID"`
	Generation int64               `json:"generation"`
	Path       string              `json:"path"`
	Access     v1alpha1.AccessType `json:"access"`
	Mode       string              `json:"mode"`
	Filesystem string              `json:"filesystem,omitempty"`
	Options    []string            `json:"options,omitempty"`
	ReadOnly   bool                `json:"readOnly,omitempty"`
	// Device and its number, once the volume was reached.
	Device string `json:"device,omitempty"`
	Number uint64 `json:"number,omitempty"`
	// Dir of a volume that is a directory, and what the kernel knows it by, once it was reached.
	Dir  string  `json:"dir,omitempty"`
	Tree file.ID `json:"tree,omitzero"`
	// Frozen tells that its file system is, or is about to be, frozen for an instant.
	Frozen bool `json:"frozen,omitempty"`
	// Targets are the paths at which the volume is, or is about to be, published.
	Targets map[string]target `json:"targets,omitempty"`
}

// target is one published path. Number is that of the device node bound there, for raw block volumes.
type target struct {
	ReadOnly bool   `json:"readOnly,omitempty"`
	Number   uint64 `json:"number,omitempty"`
}

// reached tells whether it is known what the volume is on this host.
func (r *record) reached() bool { return r.Device != "" || r.Dir != "" }

// forget makes the record one of a volume that was not reached.
func (r *record) forget() {
	r.Targets, r.Device, r.Number, r.Dir, r.Tree = nil, "", 0, "", file.ID{}
}

func (r *record) volume() datastore.Volume {
	return datastore.Volume{ID: r.ID, UID: r.UID, ClusterID: r.ClusterID}
}

// with returns a copy whose targets may be altered.
func (r *record) with() *record {
	out := *r
	out.Targets = maps.Clone(r.Targets)
	if out.Targets == nil {
		out.Targets = map[string]target{}
	}
	return &out
}

// records keeps the stage records in one folder.
type records struct{ root *file.Root }

// load returns a volume's stage record, or nil where there is none.
func (s records) load(id string) (*record, error) {
	if len(id) > maxStagedID {
		return nil, nil
	}
	raw, err := s.root.ReadDouble(id+recordSuffix, maxRecordBytes)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil && !fault.Is(err, fault.DataLoss) {
		return nil, fault.Wrap(err, "read the stage record of volume", id)
	}
	var r record
	if err := errors.Join(err, json.Unmarshal(raw, &r)); err != nil {
		return nil, fault.New(fault.Internal, "stage record %s of volume %q cannot be understood: %w; once nothing of the volume is mounted on this host, remove it",
			s.root.Path()+"/"+id+recordSuffix, id, err)
	}
	if r.Version != recordVersion || r.ID != id {
		return nil, fault.New(fault.Internal, "stage record %s is of version %d and volume %q, not of version %d and volume %q; was it copied or written by another version?",
			s.root.Path()+"/"+id+recordSuffix, r.Version, r.ID, recordVersion, id)
	}
	return &r, nil
}

// save writes a stage record durably.
func (s records) save(ctx context.Context, r *record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return fault.Wrap(s.root.WriteDouble(ctx, r.ID+recordSuffix, raw, recordMode), "write the stage record of volume", r.ID)
}

func (s records) remove(ctx context.Context, id string) error {
	return fault.Wrap(s.root.EndDouble(ctx, id+recordSuffix), "remove the stage record of volume", id)
}

// ids lists the volumes that have a stage record. What a power cut left of one that was removed, or that was not whole
// before anything was done for it, is removed.
func (s records) ids(ctx context.Context) ([]string, error) {
	names, err := s.root.ReadDir(".", 0)
	if err != nil {
		return nil, fault.Wrap(err, "list the stage records in", s.root.Path())
	}
	var out []string
	for _, name := range names {
		id, ok := strings.CutSuffix(name, recordSuffix)
		if !ok || file.Temporary(name) {
			continue
		}
		if _, err := s.root.ReadDouble(name, maxRecordBytes); fault.Is(err, fault.NotFound) {
			if err := s.remove(ctx, id); err != nil {
				return nil, err
			}
			continue
		}
		out = append(out, id)
	}
	return out, nil
}
