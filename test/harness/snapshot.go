package harness

import (
	"context"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/uuid"
)

// NewSnapshotName gives a snapshot name as external-snapshotter makes it.
func NewSnapshotName() string { return "snapshot-" + uuid.NewString() }

// Snapshot is what CreateSnapshot is asked for, and what became of it. Its methods make one call each and may be
// repeated.
type Snapshot struct {
	Client     *Client
	Name       string
	Volume     string // the source's ID
	Parameters map[string]string
	// ID, Size and Answer are set by Create.
	ID     string
	Size   int64
	Answer *csi.Snapshot
}

// Snapshot prepares a snapshot of a volume; nothing is called.
func (v *Volume) Snapshot() *Snapshot {
	return &Snapshot{Client: v.Client, Name: NewSnapshotName(), Volume: v.ID}
}

// Create calls CreateSnapshot.
func (s *Snapshot) Create(ctx context.Context) error {
	answer, err := s.Client.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{
		SourceVolumeId: s.Volume, Name: s.Name, Parameters: s.Parameters,
	})
	if err != nil {
		return err
	}
	s.Answer = answer.GetSnapshot()
	s.ID, s.Size = s.Answer.GetSnapshotId(), s.Answer.GetSizeBytes()
	return nil
}

// Ready calls CreateSnapshot, as external-snapshotter does, until the snapshot can be restored.
func (s *Snapshot) Ready(ctx context.Context) error {
	for {
		if err := Retry(ctx, s.Create); err != nil {
			return err
		}
		if s.Answer.GetReadyToUse() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Delete calls DeleteSnapshot.
func (s *Snapshot) Delete(ctx context.Context) error {
	_, err := s.Client.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: s.ID})
	return err
}

// Source is the content source of volumes that are restored from the snapshot.
func (s *Snapshot) Source() *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: s.ID},
	}}
}

// Source is the content source of clones of the volume.
func (v *Volume) Source() *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: v.ID},
	}}
}

// ListedSnapshots gives what ListSnapshots lists, all pages of it, by ID.
func (c *Client) ListedSnapshots(ctx context.Context) (map[string]*csi.Snapshot, error) {
	all := map[string]*csi.Snapshot{}
	for token := ""; ; {
		page, err := c.ListSnapshots(ctx, &csi.ListSnapshotsRequest{StartingToken: token})
		if err != nil {
			return nil, err
		}
		for _, entry := range page.GetEntries() {
			all[entry.GetSnapshot().GetSnapshotId()] = entry.GetSnapshot()
		}
		if token = page.GetNextToken(); token == "" {
			return all, nil
		}
	}
}
