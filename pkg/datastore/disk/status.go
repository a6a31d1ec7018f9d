package disk

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/gpt"
)

// Status adds up the disks that are there. The space of volumes is the pool's own, and that of volumes that are being
// made; what waits for its wipe, is retained, or is a stranger's isn't.
func (p *pool) Status(ctx context.Context) (datastore.Status, error) {
	s, err := p.status(ctx)
	return s, fault.Wrap(err, "measure datastore", p.name)
}

func (p *pool) status(ctx context.Context) (datastore.Status, error) {
	p.mu.Lock()
	members := p.sorted()
	p.mu.Unlock()
	var s datastore.Status
	var errs []error
	there := 0
	for _, m := range members {
		err := p.with(ctx, m, false, func(o opened) error {
			o.measure(&s)
			return nil
		})
		if err := ctx.Err(); err != nil {
			return datastore.Status{}, err
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		there++
	}
	if there == 0 {
		return datastore.Status{}, fault.As(fault.Unavailable, errors.Join(errs...))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.UUID, s.Host, s.Features = p.marker.Pool, p.marker.Host, []v1alpha1.Feature{v1alpha1.WipeByZeroes}
	s.Used = s.Total - s.Free
	for _, err := range errs {
		s.Findings = append(s.Findings, v1alpha1.Finding{
			Reason: "DiskMissing", Message: err.Error() + "; its volumes can't be used until it is back",
		})
	}
	for _, c := range p.refused {
		s.Findings = append(s.Findings, v1alpha1.Finding{Reason: "DiskRefused", Message: c.err.Error()})
	}
	if s.Largest == s.Free {
		s.Largest = 0
	}
	return s, nil
}

// measure adds a disk to what is measured. Used is set from the sums.
func (o opened) measure(s *datastore.Status) {
	o.pool.mu.Lock()
	defer o.pool.mu.Unlock()
	first := (int64(o.table.FirstUsable)*int64(o.table.SectorSize) + gpt.MiB - 1) / gpt.MiB * gpt.MiB
	end := int64(o.table.LastUsable+1) * int64(o.table.SectorSize) / gpt.MiB * gpt.MiB
	s.Total += end - first - metaBytes
	for _, f := range o.free() {
		s.Free += f.Bytes
		s.Largest = max(s.Largest, f.Bytes)
	}
	broken := 0
	for _, e := range o.entries {
		switch {
		case e.err != nil:
			broken++
		case e.mark != nil && (e.mark.Phase == ready || e.mark.Phase == making):
			s.Own += e.mark.takes().Bytes
		}
	}
	if broken > 0 {
		s.Findings = append(s.Findings, v1alpha1.Finding{
			Reason: "MarksUnreadable", Message: fmt.Sprintf("%s: %d marks can't be read; the disk may be failing: look at the kernel's log", o.path, broken),
		})
	}
	if !slices.ContainsFunc(o.entries[2:], func(e entry) bool { return e.mark == nil && e.err == nil }) {
		s.Findings = append(s.Findings, v1alpha1.Finding{
			Reason: "PartitionsExhausted", Message: fmt.Sprintf("%s: all partitions are taken that the kernel has; no more volumes can be made on it", o.path),
		})
	}
}
