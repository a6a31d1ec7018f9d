package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

const restoredBytes = 2 << 30

// snapshot takes a snapshot of the website, and waits until it can be restored.
func (d *demo) snapshot(ctx context.Context) (string, error) {
	d.taken = d.website.Snapshot()
	if err := d.taken.Ready(ctx); err != nil {
		return "", err
	}
	frozen, err := d.website.content.frozen()
	if err != nil {
		return "", err
	}
	d.atSnapshot = frozen
	return fmt.Sprintf("%s, ready; holds %s", inBytes(d.taken.Size), d.atSnapshot), nil
}

// restore makes a larger volume of the snapshot, and clone one of the database.
func (d *demo) restore(ctx context.Context) (string, error) {
	v := d.restored
	v.From, v.Bytes, v.content = d.taken.Source(), restoredBytes, d.atSnapshot
	return v.copied(ctx, "the snapshot")
}

func (d *demo) clone(ctx context.Context) (string, error) {
	v := d.cloned
	v.From, v.Bytes, v.content = d.database.Source(), d.database.Size, d.database.content
	return v.copied(ctx, "the database")
}

// copied makes a volume of its source.
func (v *volume) copied(ctx context.Context, from string) (string, error) {
	if err := harness.Retry(ctx, v.Create); err != nil {
		return "", err
	}
	_, taken, err := v.onDisk()
	return fmt.Sprintf("%s of %s; takes %s", inBytes(v.Size), from, inBytes(taken)), err
}

// bigger uses the restored volume, and sees that its file system has grown with it.
func (d *demo) bigger(ctx context.Context) (string, error) {
	told, err := d.restored.use(ctx)
	if err != nil {
		return "", err
	}
	room, err := d.restored.room()
	if err == nil && room < restoredBytes*9/10 {
		err = fmt.Errorf("the pod sees %s", inBytes(room))
	}
	return fmt.Sprintf("%s; the pod sees %s", told, inBytes(room)), err
}

// well asks the controller and the node how each volume is.
func (d *demo) well(ctx context.Context) (string, error) {
	asked := 0
	for _, v := range d.volumes() {
		for _, ask := range []func(context.Context) (*csi.VolumeHealth, error){v.controllersHealth, v.nodesHealth} {
			h, err := ask(ctx)
			if err != nil {
				return "", err
			}
			if bad := h.GetHealthStatuses(); len(bad) > 0 {
				return "", fmt.Errorf("volume %s is %v", v.label, bad)
			}
			asked++
		}
	}
	return fmt.Sprintf("%d answers, of controller and node: nothing wrong", asked), nil
}

// hurt turns the restored file system read-only, as the kernel does after an error, and hears what the node says of it.
func (d *demo) hurt(ctx context.Context) (string, error) {
	v := d.restored
	if err := harness.Run("mount", "-o", "remount,ro", v.Staging); err != nil {
		return "", err
	}
	h, err := v.nodesHealth(ctx)
	if err != nil {
		return "", err
	}
	if len(h.GetHealthStatuses()) == 0 {
		return "", errors.New("the node finds nothing wrong with a file system that turned read-only")
	}
	first := h.GetHealthStatuses()[0]
	if err := harness.Run("mount", "-o", "remount,rw", v.Staging); err != nil {
		return "", err
	}
	if h, err = v.nodesHealth(ctx); err == nil && len(h.GetHealthStatuses()) > 0 {
		err = fmt.Errorf("mended, it is %v", h.GetHealthStatuses())
	}
	return fmt.Sprintf("the node says %s, %s; mended, nothing wrong", first.GetStatus(), first.GetReason()), err
}

func (v *volume) controllersHealth(ctx context.Context) (*csi.VolumeHealth, error) {
	answer, err := v.Client.ControllerGetVolumeHealth(ctx, &csi.ControllerGetVolumeHealthRequest{VolumeId: v.ID})
	return answer.GetVolumeHealth(), err
}

func (v *volume) nodesHealth(ctx context.Context) (*csi.VolumeHealth, error) {
	answer, err := v.Client.NodeGetVolumeHealth(ctx, &csi.NodeGetVolumeHealthRequest{
		VolumeId: v.ID, VolumePublishPath: v.Target, StagingTargetPath: v.Staging,
	})
	return answer.GetVolumeHealth(), err
}

// dropSnapshot deletes the snapshot while its restored copy is in use.
func (d *demo) dropSnapshot(ctx context.Context) (string, error) {
	if err := d.taken.Delete(ctx); err != nil {
		return "", err
	}
	listed, err := d.driver.ListedSnapshots(ctx)
	if err == nil && len(listed) > 0 {
		err = fmt.Errorf("%d snapshots are still listed", len(listed))
	}
	return "gone; what was restored from it stays", err
}

// volumes are all that the demo makes, once all are made.
func (d *demo) volumes() []*volume { return []*volume{d.website, d.database, d.restored, d.cloned} }
