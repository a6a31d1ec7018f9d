package storm

import (
	"context"
	"fmt"
	"slices"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// compare checks what the driver lists and counts, and what lies on the storage, against the model of a site that is at rest.
func (s *site) compare(ctx context.Context) error {
	volumes, snapshots := map[string]world{}, map[string]world{}
	for _, c := range s.callers {
		for _, o := range c.objects() {
			w, sure := o.worlds.certain()
			switch {
			case !sure:
				return fmt.Errorf("%s may be %v", o.name, o.worlds)
			case w.phase == absent:
			case o.snapshot != nil:
				snapshots[o.name] = w
			default:
				volumes[o.name] = w
			}
		}
	}
	if err := s.compareVolumes(ctx, volumes); err != nil {
		return err
	}
	if err := s.compareSnapshots(ctx, snapshots); err != nil {
		return err
	}
	// What was deleted is removed behind the answer; figures follow.
	return harness.Eventually(ctx, settleLimit, func() error {
		if err := s.comparePromises(ctx, volumes, snapshots); err != nil {
			return err
		}
		return s.compareStorage(len(volumes))
	})
}

func (s *site) compareVolumes(ctx context.Context, want map[string]world) error {
	listed, err := s.driver.Listed(ctx)
	if err != nil {
		return err
	}
	for id, entry := range listed {
		w, is := want[id]
		if !is {
			return fmt.Errorf("%s is listed and doesn't exist", id)
		}
		if got := entry.GetVolume().GetCapacityBytes(); got != w.size {
			return fmt.Errorf("%s is listed with %d bytes, it is %v", id, got, w)
		}
		var nodes []string
		if w.attached != "" {
			nodes = []string{s.driver.Host}
		}
		if got := entry.GetStatus().GetPublishedNodeIds(); !slices.Equal(got, nodes) {
			return fmt.Errorf("%s is listed as published to %v, it is %v", id, got, w)
		}
	}
	for id, w := range want {
		if listed[id] == nil {
			return fmt.Errorf("%s isn't listed, it is %v", id, w)
		}
	}
	return nil
}

func (s *site) compareSnapshots(ctx context.Context, want map[string]world) error {
	if !s.can.snapshots {
		return nil
	}
	listed, err := s.driver.ListedSnapshots(ctx)
	if err != nil {
		return err
	}
	for id, snapshot := range listed {
		if w, is := want[id]; !is || snapshot.GetSizeBytes() != w.size || !snapshot.GetReadyToUse() {
			return fmt.Errorf("snapshot %s is listed as %v, it is %v", id, snapshot, w)
		}
	}
	for id, w := range want {
		if listed[id] == nil {
			return fmt.Errorf("snapshot %s isn't listed, it is %v", id, w)
		}
	}
	return nil
}

// comparePromises checks what is counted as promised: the size of each volume, and of a snapshot what it holds at most.
func (s *site) comparePromises(ctx context.Context, volumes, snapshots map[string]world) error {
	var least, most int64
	for _, w := range volumes {
		least += w.size
	}
	most = least
	for _, w := range snapshots {
		most += s.storage.Can().Round(w.size+w.size/64) + mib // and the storage's own
	}
	count, err := s.driver.Gauge(ctx, "volumes", pool)
	if err != nil {
		return err
	}
	bytes, err := s.driver.Gauge(ctx, "provisioned_bytes", pool)
	if err != nil {
		return err
	}
	if int(count) != len(volumes) || int64(bytes) < least || int64(bytes) > most {
		return fmt.Errorf("%d volumes and %d snapshots were promised %d to %d bytes, the driver counts %v volumes and %v bytes",
			len(volumes), len(snapshots), least, most, count, bytes)
	}
	return nil
}

// compareStorage checks that on the storage there is no more and no less than there should be.
func (s *site) compareStorage(volumes int) error {
	there, err := s.storage.Volumes()
	if err != nil {
		return err
	}
	archived, err := s.storage.Archived()
	if err != nil {
		return err
	}
	if !s.kept.explains(retain, len(there)-volumes) || !s.kept.explains(archive, len(archived)) {
		return fmt.Errorf("there are %d volumes, and %s; on the storage lie %v, archived are %v", volumes, &s.kept, there, archived)
	}
	return nil
}
