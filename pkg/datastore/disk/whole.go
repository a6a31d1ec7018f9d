package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/gpt"
)

// wholes is a set of disks each of which is one volume, or free.
type wholes struct {
	name         string
	uuid         string
	config       datastore.Config
	tools        datastore.Tools
	capabilities datastore.Capabilities

	reclaiming chan struct{}

	mu sync.Mutex
	// devices are the paths of spec.disk.devices; places says which volume has which disk, by its name, as far as records
	// or headers told.
	devices []string
	places  map[string]string
	wipe    v1alpha1.WipePolicy
}

var _ datastore.Pool = (*wholes)(nil)

func openWhole(ctx context.Context, c datastore.Config) (datastore.Pool, error) {
	p := &wholes{
		name: c.Datastore.Name, uuid: c.PoolUUID, config: c, tools: c.Tools, capabilities: capabilities(c.Datastore.Spec),
		devices: c.Datastore.Spec.Disk.Devices, places: map[string]string{}, wipe: c.Datastore.Spec.Volumes.Wipe,
		reclaiming: make(chan struct{}, 1),
	}
	all := p.lookAll(ctx)
	var errs []error
	for _, d := range all {
		errs = append(errs, d.err)
		if p.uuid == "" && d.err == nil && d.header != nil {
			p.uuid = d.header.Pool
		}
	}
	if !slices.ContainsFunc(all, func(d wholeDisk) bool { return d.err == nil }) {
		return nil, fault.As(fault.Unavailable, fault.New(fault.Unavailable, "none of its %d disks can be used: %w", len(all), errors.Join(errs...)))
	}
	if p.uuid == "" && c.Inspect {
		return nil, fault.New(fault.NotFound, "its disks bear no header of ours: where volumes are whole disks, only records say so")
	}
	p.uuid = cmp.Or(p.uuid, c.Tools.NewUUID())
	return p, c.Claims.Take(p.name, "disks of pool "+p.uuid, nil)
}

// Update takes up what an administrator changed of a datastore that keeps its place.
func (p *wholes) Update(d *v1alpha1.Datastore) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe = d.Spec.Volumes.Wipe
}

// wholeDisk is a disk as it was found.
type wholeDisk struct {
	path string
	// name tells it from all others, wherever it is attached: its WWID, else model and serial number.
	name     string
	instance instance
	bytes    int64
	// header is ours; nil where there is none. blank disks bear nothing; why says what the others bear.
	header *diskHeader
	blank  bool
	why    error
	err    error
}

// free tells whether a disk can become a volume, as far as the disk says.
func (d wholeDisk) free() bool {
	return d.err == nil && (d.blank || d.header != nil && d.header.Phase == diskClean)
}

// lookAll looks at all disks. Two that bear one name can't be told apart: neither is used.
func (p *wholes) lookAll(ctx context.Context) []wholeDisk {
	var all []wholeDisk
	for _, path := range p.devices {
		d, err := command.Await(ctx, p.tools.Command, "look at disk "+path, func(ctx context.Context) (wholeDisk, error) { return p.look(ctx, path) })
		d.path, d.err = path, fault.Wrap(err, "look at disk", path)
		if d.err == nil && slices.ContainsFunc(all, func(o wholeDisk) bool { return o.err == nil && o.instance == d.instance }) {
			continue // another path to it
		}
		all = append(all, d)
	}
	for i := range all {
		for j := range all[:i] {
			if all[i].err == nil && all[j].name == all[i].name && all[j].name != "" {
				err := fault.New(fault.Precondition, "disks %s and %s both say that they are %s, so that they can't be told apart; neither is used", all[j].path, all[i].path, all[i].name)
				all[i].err, all[j].err = err, err
			}
		}
	}
	return all
}

func (p *wholes) look(ctx context.Context, path string) (wholeDisk, error) {
	f, err := blockdev.Open(path, blockdev.Mode{Direct: true})
	if fault.Is(err, fault.NotFound) {
		return wholeDisk{}, fault.New(fault.Unavailable, "it isn't there; is it pulled, or is its name another one?")
	}
	if err != nil {
		return wholeDisk{}, err
	}
	defer func() { _ = f.Close() }() // only read
	return p.describe(ctx, f, path)
}

func (p *wholes) describe(ctx context.Context, f *os.File, path string) (d wholeDisk, err error) {
	if part, err := blockdev.IsPartition(f); err != nil || part {
		return d, errors.Join(err, fault.New(fault.Precondition, "it is a partition; type disk takes whole disks"))
	}
	if d.instance, err = instanceOf(f); err != nil {
		return d, err
	}
	names, err := blockdev.Identify(path)
	if err != nil {
		return d, err
	}
	if d.name = cmp.Or(names.WWID, serialName(names)); d.name == "" {
		return d, fault.New(fault.Precondition, "it has neither a WWID nor a serial number, so that it can't be told from others; it is not used")
	}
	size, _, err := geometry(f)
	if err != nil {
		return d, err
	}
	if d.bytes = size / granularity * granularity; d.bytes < 4*tail {
		return d, fault.New(fault.OutOfRange, "it has %d bytes, which is too little for a volume", size)
	}
	h, ok, err := readHeader(f, size)
	if err != nil {
		return d, err
	}
	if ok {
		d.header = &h
		if h.Cluster != p.config.ClusterID || h.Datastore != p.name {
			return d, another(fault.New(fault.Precondition, "it bears a header of datastore %q of cluster %q; it is left alone", shorten(h.Datastore), shorten(h.Cluster)))
		}
		return d, nil
	}
	d.why = blank(ctx, p.tools.Command, f)
	d.blank = d.why == nil
	if fault.Is(d.why, fault.Unavailable) {
		return d, d.why // what can't be read is neither blank nor known
	}
	return d, nil
}

func serialName(d blockdev.Disk) string {
	if d.Serial == "" {
		return ""
	}
	return "serial:" + d.Model + ":" + d.Serial
}

// at returns the disk of that name. One that isn't there is fault.Unavailable.
func (p *wholes) at(ctx context.Context, name string) (wholeDisk, error) {
	var errs []error
	for _, d := range p.lookAll(ctx) {
		if d.name == name {
			return d, d.err
		}
		errs = append(errs, d.err)
	}
	return wholeDisk{}, fault.As(fault.Unavailable, fault.New(fault.Unavailable, "its disk %s isn't there: %w", shorten(name),
		cmp.Or(errors.Join(errs...), error(fault.New(fault.Unavailable, "none of spec.disk.devices leads to it")))))
}

// Choose is what datastore.Choose asks: the smallest free disk that is large enough. It is proven blank here, and nothing is
// written to it. The records of the others say which disks are theirs. A copy needs room for the header behind it.
func (p *wholes) Choose(ctx context.Context, v datastore.Volume, from *datastore.Volume, others []datastore.Volume) (string, error) {
	if err := errors.Join(check(v, p.config.ClusterID), lacking(p.capabilities, v)); err != nil {
		return "", p.about(err, "choose a disk for", v)
	}
	all := p.lookAll(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range others {
		p.places[o.Location] = o.UID
	}
	var best *wholeDisk
	need, largest := v.Bytes, int64(0)
	if from != nil {
		need += tail
	}
	for i, d := range all {
		if uid, taken := p.places[d.name]; !d.free() || taken && uid != v.UID {
			continue
		}
		largest = max(largest, d.bytes)
		if d.bytes >= need && (best == nil || d.bytes < best.bytes) {
			best = &all[i]
		}
	}
	if best == nil {
		return "", p.about(fault.New(fault.Exhausted, "%d bytes are needed, the largest free disk has %d", need, largest), "choose a disk for", v)
	}
	p.places[best.name] = v.UID
	return best.name, nil
}

func (p *wholes) about(err error, op string, v datastore.Volume) error {
	return fault.Wrap(err, op, "volume "+shorten(v.ID)+" on datastore "+p.name)
}

// Status counts the disks that are free, those of volumes, and those that are wiped. A disk that bears something and is
// no volume's that is known is none of the pool's.
func (p *wholes) Status(ctx context.Context) (datastore.Status, error) {
	s := datastore.Status{UUID: p.uuid, Host: p.config.Host, Features: []v1alpha1.Feature{v1alpha1.WipeByZeroes}}
	all := p.lookAll(ctx)
	if err := ctx.Err(); err != nil {
		return s, fault.Wrap(err, "measure datastore", p.name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	usable := 0
	for _, d := range all {
		_, ours := p.places[d.name]
		switch {
		case d.err != nil:
			s.Findings = append(s.Findings, v1alpha1.Finding{Reason: "DiskRefused", Message: d.err.Error()})
			continue
		case ours || d.header != nil && (d.header.Phase == diskMaking || d.header.Phase == diskMade):
			s.Own += d.bytes
		case d.free():
			s.Free += d.bytes
			s.Largest = max(s.Largest, d.bytes)
		case d.header == nil:
			usable++
			s.Findings = append(s.Findings, v1alpha1.Finding{Reason: "DiskNotFree", Message: fmt.Sprintf("%s: %v", d.path, d.why)})
			continue
		}
		usable++
		s.Total += d.bytes
	}
	s.Used = s.Total - s.Free
	if usable == 0 {
		return s, fault.New(fault.Unavailable, "measure datastore %s: none of its %d disks can be used", p.name, len(all))
	}
	return s, nil
}

// List tells of disks that bear a header; those of volumes that were opened bear none, and are known by their records.
func (p *wholes) List(ctx context.Context) ([]datastore.Found, error) {
	var found []datastore.Found
	for _, d := range p.lookAll(ctx) {
		if d.err != nil || d.header == nil || d.header.Phase == diskClean || d.header.Phase == diskMaking {
			continue
		}
		f := datastore.Found{
			Volume: datastore.Volume{
				ID: d.header.ID, UID: d.header.UID, ClusterID: d.header.Cluster, Bytes: d.bytes, Format: v1alpha1.FormatDevice, Provisioning: v1alpha1.Thick,
			},
			State: datastore.FoundRemainder, Location: d.name, Allocated: d.bytes, Datastore: p.name,
			Made: datastore.Made{Bytes: d.bytes, Location: d.name, Identity: d.name},
		}
		if d.header.Phase == diskMade {
			f.State = datastore.FoundWhole
		}
		found = append(found, f)
	}
	return found, ctx.Err()
}

// Find trusts the record: a disk that was opened bears no mark.
func (p *wholes) Find(ctx context.Context, v datastore.Volume) (datastore.Made, error) {
	m, err := p.find(ctx, v)
	return m, p.about(err, "find", v)
}

func (p *wholes) find(ctx context.Context, v datastore.Volume) (datastore.Made, error) {
	d, err := p.known(ctx, v)
	if err != nil {
		return datastore.Made{}, err
	}
	return datastore.Made{Bytes: d.bytes, Location: d.name, Identity: d.name, Takes: d.bytes}, nil
}

// known returns the disk of a volume that was made. None is fault.NotFound, another's fault.Precondition.
func (p *wholes) known(ctx context.Context, v datastore.Volume) (wholeDisk, error) {
	if err := check(v, p.config.ClusterID); err != nil {
		return wholeDisk{}, err
	}
	if v.Location == "" || v.Snapshot {
		return wholeDisk{}, fault.New(fault.NotFound, "its record names no disk")
	}
	d, err := p.at(ctx, v.Location)
	if err != nil {
		return wholeDisk{}, err
	}
	switch {
	case d.header == nil && v.Identity == "":
		return wholeDisk{}, fault.New(fault.NotFound, "disk %s was chosen for it, and it was never made", d.path)
	case d.header == nil && v.Identity != d.name:
		return wholeDisk{}, fault.New(fault.Precondition, "disk %s is %s, the volume's was %s; it is left alone", d.path, d.name, shorten(v.Identity))
	case d.header == nil:
	case d.header.Phase == diskClean:
		return wholeDisk{}, fault.New(fault.NotFound, "disk %s is free", d.path)
	case d.header.UID != v.UID || d.header.ID != v.ID:
		return wholeDisk{}, fault.New(fault.Precondition, "disk %s bears the header of volume %s, UID %s (%s); it is left alone", d.path, shorten(d.header.ID), shorten(d.header.UID), d.header.Phase)
	case d.header.Phase != diskMade:
		return wholeDisk{}, fault.New(fault.NotFound, "disk %s is %s only", d.path, d.header.Phase)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.places[d.name] = v.UID
	return d, nil
}

// Examine is what datastore.Examine asks. A disk that isn't there is a problem of its volume.
func (p *wholes) Examine(ctx context.Context, v datastore.Volume) ([]v1alpha1.Problem, error) {
	d, err := p.known(ctx, v)
	switch {
	case fault.Is(err, fault.Unavailable) && ctx.Err() == nil:
		return []v1alpha1.Problem{{Status: inaccessible, Reason: "DiskMissing", Message: err.Error() + "; bring the disk back, and the volume is as it was"}}, nil
	case err == nil && d.header == nil && d.blank && v.Filesystem != nil:
		return []v1alpha1.Problem{{
			Status: dataLoss, Reason: "DiskBlank",
			Message: fmt.Sprintf("disk %s reads blank, and the volume's file system was on it; restore it from a backup, or delete the volume", d.path),
		}}, nil
	}
	return nil, p.about(err, "look at", v)
}

// claim opens a disk for writing so that nobody else can mount it, and makes sure that it is still the one that was found.
func (p *wholes) claim(ctx context.Context, d wholeDisk) (*os.File, error) {
	f, err := command.Await(ctx, p.tools.Command, "claim disk "+d.path, func(context.Context) (*os.File, error) {
		return blockdev.Open(d.path, blockdev.Mode{Write: true, Exclusive: true, Direct: true})
	})
	if err != nil {
		return nil, err
	}
	now, err := instanceOf(f)
	if err == nil && now != d.instance {
		err = fault.New(fault.Unavailable, "disk %s was replaced meanwhile; try again", d.path)
	}
	if err == nil {
		err = noPartitions(f)
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// noPartitions is an error where somebody has a partition open that the kernel has of a disk: a raw volume may hold a table.
// None is mounted or claimed, since the disk is.
func noPartitions(f *os.File) error {
	devices, err := gpt.Devices(f)
	if err != nil || len(devices) == 0 {
		return err
	}
	for _, d := range devices {
		if used, err := blockdev.OpenElsewhere(d.Path); used || err != nil {
			return errors.Join(err, fault.New(fault.Precondition, "%s, a partition of it, is in use", d.Path))
		}
	}
	return nil
}
