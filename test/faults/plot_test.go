package faults

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// plot is what happens in a life, act by act; each is repeated where the driver dies in it.
type plot func(l *life) []act

type act struct {
	name string
	do   func(context.Context) error
}

// whole is a volume's life with all that happens to one: it grows, and leaves.
func whole(l *life) []act {
	v := l.volume
	grown := int64(0)
	return append(append(l.up(), []act{
		{"expand", func(ctx context.Context) error {
			if grown == 0 {
				grown = v.Size + 64*mib
			}
			_, err := v.Expand(ctx, grown)
			return err
		}},
		{"expand on the node", l.expandOnNode},
		{"read", l.read},
	}...), l.down()...)
}

// copied is the life of a volume that is snapshot, restored larger and cloned; the source goes first. Where there are no
// snapshots it is cloned twice.
func copied(l *life) []act {
	s := l.volume.Snapshot()
	acts := l.up()
	if !l.storage.Can().CopiesInUse {
		acts = append(acts, leave(l.volume)...)
	}
	from := l.volume.Source
	if l.storage.Can().Snapshots {
		from = s.Source
		acts = append(acts, act{"snapshot", func(ctx context.Context) error { s.Volume = l.volume.ID; return ready(ctx, s) }})
	}
	acts = append(acts, []act{
		{"restore", func(ctx context.Context) error {
			l.restored.From, l.restored.Bytes = from(), 2*l.volume.Size
			return l.restored.Create(ctx)
		}},
		{"clone", func(ctx context.Context) error {
			l.cloned.From, l.cloned.Bytes = l.volume.Source(), l.volume.Size
			return l.cloned.Create(ctx)
		}},
	}...)
	acts = append(append(acts, leave(l.volume)...), act{"delete the source", l.volume.Delete})
	if l.storage.Can().Snapshots {
		acts = append(acts, act{"delete the snapshot", s.Delete})
	}
	for _, v := range []*harness.Volume{l.restored, l.cloned} {
		acts = append(acts, act{"attach the copy", v.Attach}, act{"stage the copy", v.Stage}, act{"publish the copy", v.Publish},
			act{"read the copy", func(context.Context) error { return l.check(v) }})
		acts = append(append(acts, leave(v)...), act{"delete the copy", v.Delete})
	}
	return acts
}

// ready asks until a snapshot can be restored. An error ends it: only the life knows whether the driver died.
func ready(ctx context.Context, s *harness.Snapshot) error {
	for {
		if err := s.Create(ctx); err != nil || s.Answer.GetReadyToUse() {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// archived is the life of a volume whose end is changed while it is in use, and that is kept when it is deleted.
func archived(l *life) []act {
	end := func(onDelete string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := l.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{
				VolumeId: l.volume.ID, MutableParameters: map[string]string{"onDelete": onDelete},
			})
			return err
		}
	}
	return append(append(append(l.up(),
		act{"order to retain", end("retain")}, act{"order to archive", end("archive")}), l.down()...),
		act{"take from the archive", func(context.Context) error { return l.storage.TakeFromArchive(l.volume.Name) }})
}

func (l *life) up() []act {
	v := l.volume
	return []act{{"create", v.Create}, {"attach", v.Attach}, {"stage", v.Stage}, {"publish", v.Publish}, {"write", l.write}}
}

func (l *life) down() []act {
	begin := act{"begin to leave", func(context.Context) error { l.leaving = true; return nil }}
	return append(append([]act{begin}, leave(l.volume)...), act{"read again", l.readAgain}, act{"delete", l.volume.Delete})
}

func leave(v *harness.Volume) []act {
	return []act{{"unpublish", v.Unpublish}, {"unstage", v.Unstage}, {"detach", v.Detach}}
}

func (l *life) write(context.Context) error {
	if l.volume.Block {
		return l.data.WriteDevice(l.volume.Target, 0)
	}
	return l.data.WriteFile(filepath.Join(l.volume.Target, "data"))
}

func (l *life) read(context.Context) error { return l.check(l.volume) }

// check reads the life's data from a volume that holds it.
func (l *life) check(v *harness.Volume) error {
	if v.Block {
		return l.data.CheckDevice(v.Target, 0)
	}
	return l.data.CheckFile(filepath.Join(v.Target, "data"))
}

func (l *life) expandOnNode(ctx context.Context) error {
	if fs := l.volume.Filesystem; fs != "" && !harness.GrowsMounted(fs) {
		return nil // this machine can't; in User-Mode Linux it is a point
	}
	return l.volume.NodeExpand(ctx, l.volume.Size)
}

// readAgain brings the volume up once more where the driver died while it was taken down.
func (l *life) readAgain(ctx context.Context) error {
	if !l.again {
		return nil
	}
	v := l.volume
	for _, do := range []func(context.Context) error{v.Attach, v.Stage, v.Publish, l.read, v.Unpublish, v.Unstage, v.Detach} {
		if err := do(ctx); err != nil {
			return fmt.Errorf("bring it up again: %w", err)
		}
	}
	return nil
}
