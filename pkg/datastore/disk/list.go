package disk

import (
	"context"
	"fmt"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/gpt"
)

// The health of a volume, by its names in the CSI specification (VolumeHealthErrorType).
const (
	dataLoss     v1alpha1.VolumeHealth = "DATA_LOSS"
	inaccessible v1alpha1.VolumeHealth = "INACCESSIBLE"
)

// List tells what bears a mark on the disks that are there. What a disk bears that isn't, Examine tells of a record.
func (p *pool) List(ctx context.Context) ([]datastore.Found, error) {
	p.mu.Lock()
	members := p.sorted()
	p.mu.Unlock()
	var all []datastore.Found
	var failed error
	there := 0
	for _, m := range members {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := p.with(ctx, m, false, func(o opened) error {
			all = append(all, o.list()...)
			return nil
		})
		if err != nil {
			failed = err
			continue
		}
		there++
	}
	if there == 0 {
		return nil, fault.Wrap(failed, "list datastore", p.name)
	}
	return all, ctx.Err()
}

// list tells what is in the slots of a disk. What is being made isn't there yet.
func (o opened) list() []datastore.Found {
	o.pool.mu.Lock()
	defer o.pool.mu.Unlock()
	var all []datastore.Found
	for n := 2; n < slots; n++ {
		e, part := o.entries[n], gpt.Partition{}
		if n <= len(o.table.Partitions) {
			part = o.table.Partitions[n-1]
		}
		switch {
		case e.err != nil, e.mark == nil && part.Type == volumeType():
			all = append(all, o.unclear(n, part, e.err))
		case e.mark == nil || e.mark.Phase == making:
		default:
			all = append(all, o.found(n, part, *e.mark))
		}
	}
	return all
}

func (o opened) unclear(n int, part gpt.Partition, err error) datastore.Found {
	if err == nil {
		err = fault.New(fault.Precondition, "it bears no mark, so nobody knows whose it is")
	}
	f := datastore.Found{
		Volume: datastore.Volume{ID: fmt.Sprintf("partition-%d", n)}, State: datastore.FoundUnclear, Datastore: o.marker.Datastore,
		Location: fmt.Sprintf("%s/%s", o.guid, part.ID),
		Problems: []v1alpha1.Problem{{
			Status: inaccessible, Reason: "MarkUnreadable",
			Message: fmt.Sprintf("partition %d of %s is left alone: %v; restore it from a backup, or remove it by hand", n, o.path, err),
		}},
	}
	if part.Used() {
		f.Allocated = o.table.Span(part).Bytes
	}
	return f
}

func (o opened) found(n int, part gpt.Partition, k mark) datastore.Found {
	states := map[phase]datastore.FoundState{ready: datastore.FoundWhole, retained: datastore.FoundRetained, archived: datastore.FoundArchived, remainder: datastore.FoundRemainder}
	f := datastore.Found{
		Volume: k.volume(), State: states[k.Phase], Made: made(o.guid, k), Location: location(o.guid, k),
		Allocated: k.takes().Bytes, Datastore: o.marker.Datastore,
	}
	if k.Source != nil {
		f.Source = &datastore.Volume{ID: k.Source.ID, UID: k.Source.UID, ClusterID: k.Cluster}
	}
	switch {
	case k.Cluster != o.marker.Cluster || check(k.volume(), o.marker.Cluster) != nil:
		f = o.unclear(n, part, fault.New(fault.Precondition, "its mark is of volume %s of cluster %s, the datastore is of cluster %s",
			shorten(k.ID), shorten(k.Cluster), o.marker.Cluster))
	case k.Phase != remainder:
		f.Problems = problems(o.path, o.table, n, k)
	}
	return f
}

// problems compares a volume's mark with the table.
func problems(path string, t gpt.Table, n int, k mark) []v1alpha1.Problem {
	part := t.Partitions[n-1]
	problem := func(status v1alpha1.VolumeHealth, reason, format string, args ...any) []v1alpha1.Problem {
		return []v1alpha1.Problem{{Status: status, Reason: reason, Message: fmt.Sprintf(format, args...)}}
	}
	if !part.Used() {
		return problem(dataLoss, "PartitionMissing", "partition %d of %s is no more in its table, only the mark is there; its bytes were %d to %d of the disk: "+
			"put the entry back with the GUID %s, restore the volume from a backup, or delete it", n, path, k.Span.Start, k.Span.End(), k.Partition)
	}
	is := t.Span(part)
	switch {
	case part.ID.String() != k.Partition || is.Start != k.Span.Start:
		return problem(inaccessible, "PartitionReplaced", "partition %d of %s has the GUID %s and begins at byte %d, the volume's has %s and begins at %d; put back what was there",
			n, path, part.ID, is.Start, k.Partition, k.Span.Start)
	case is.Bytes < k.Span.Bytes:
		return problem(inaccessible, "PartitionTruncated", "partition %d of %s has %d bytes, the volume's has %d; make it as large as it was", n, path, is.Bytes, k.Span.Bytes)
	}
	return nil
}

// Examine is what datastore.Examine asks. A disk that isn't there is a problem of each volume on it.
func (p *pool) Examine(ctx context.Context, v datastore.Volume) (out []v1alpha1.Problem, err error) {
	err = p.on(ctx, v, false, func(o opened, n int, k mark) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		out = problems(o.path, o.table, n, k)
		return nil
	})
	if fault.Is(err, fault.Unavailable) && ctx.Err() == nil {
		return []v1alpha1.Problem{{
			Status: inaccessible, Reason: "DiskMissing",
			Message: err.Error() + "; bring the disk back, and the volume is as it was",
		}}, nil
	}
	return out, p.about(err, "look at", v)
}
