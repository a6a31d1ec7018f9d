package disk

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"os"

	"github.com/google/uuid"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/gpt"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// scan looks at all devices of the spec and brings what is known of the members up to what is there: each disk of the
// pool under whatever path it has, and blank ones taken in where that is allowed. What can't be used is no error: the
// others work.
func (p *pool) scan(ctx context.Context) error {
	select {
	case p.scanning <- struct{}{}:
		defer func() { <-p.scanning }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var all, blanks []candidate
	for _, path := range p.devices {
		c := candidate{path: path, found: p.current(ctx, path)}
		if c.found == nil {
			c = p.look(ctx, path)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		all = append(all, c)
	}
	all = originals(all)
	var refused []candidate
	seen := map[gpt.GUID]bool{}
	for _, c := range all {
		switch {
		case c.err != nil:
			refused = append(refused, c)
		case c.blank, c.starting != nil:
			blanks = append(blanks, c)
		case c.found.kept:
			seen[c.found.table.Disk] = true
		default:
			if err := p.admit(ctx, c.found); err != nil {
				c.err = fault.Wrap(err, "use disk", c.path)
				refused = append(refused, c)
				continue
			}
			seen[c.found.table.Disk] = true
		}
	}
	for _, c := range blanks {
		guid, err := p.take(ctx, c)
		if err != nil {
			c.err = fault.Wrap(err, "take disk", c.path)
			refused = append(refused, c)
			continue
		}
		seen[guid] = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = refused
	for guid, m := range p.members {
		if !seen[guid] {
			m.path, m.why = "", missingBecause(refused)
		}
	}
	return ctx.Err()
}

// missingBecause is why a disk may not be there: what is wrong with those that can't be used.
func missingBecause(refused []candidate) error {
	var errs []error
	for _, c := range refused {
		errs = append(errs, c.err)
	}
	return errors.Join(errs...)
}

// originals refuses disks that bear the same as another one: the clone, or both where the marker doesn't tell. Two paths
// to one disk are one.
func originals(all []candidate) []candidate {
	first := map[gpt.GUID]int{}
	var out []candidate
	for _, c := range all {
		if c.found == nil {
			out = append(out, c)
			continue
		}
		at, twice := first[c.found.table.Disk]
		if !twice {
			first[c.found.table.Disk] = len(out)
			out = append(out, c)
			continue
		}
		other := &out[at]
		if c.found.instance == other.found.instance {
			continue
		}
		clone := func(c *candidate, of string) {
			c.err = fault.New(fault.Precondition, "disk %s bears the same as %s, of which it is a copy; it is left alone: take one of them away", c.path, of)
		}
		switch {
		case c.found.cloneOf(other.found):
			clone(&c, other.path)
		case other.found.cloneOf(c.found):
			clone(other, c.path)
			first[c.found.table.Disk] = len(out)
		default:
			path := other.path
			clone(other, c.path)
			clone(&c, path)
		}
		out = append(out, c)
	}
	return out
}

// admit makes a disk that bears a marker a member, or brings its member up to what was read, and mends what a crash left.
func (p *pool) admit(ctx context.Context, found *contents) error {
	if err := p.accept(found.marker); err != nil {
		return err
	}
	p.mu.Lock()
	m := p.members[found.table.Disk]
	if m == nil {
		m = &member{guid: found.table.Disk, lock: make(chan struct{}, 1)}
	}
	p.mu.Unlock()
	if err := m.hold(ctx); err != nil {
		return err
	}
	defer m.release()
	// Read once more: what was read before may have been changed by a call that held the member meanwhile.
	again := p.look(ctx, found.path)
	if again.err != nil || again.found == nil || again.found.table.Disk != m.guid {
		return fault.New(fault.Unavailable, "it has changed while it was looked at: %w", cmp.Or(again.err, errStale))
	}
	if err := p.accept(again.found.marker); err != nil {
		return err
	}
	p.mu.Lock()
	p.members[m.guid] = m
	m.adopt(again.found)
	if p.marker.Pool == "" {
		p.marker = common(again.found.marker)
	}
	p.mu.Unlock()
	if p.config.Inspect {
		return nil
	}
	return p.mend(ctx, m, again.found)
}

// common is what the markers of all disks of a pool say.
func common(m marker) marker {
	m.WWID, m.Serial, m.Starting, m.Clean = "", "", false, nil
	return m
}

// accept tells whether a marker is of this pool.
func (p *pool) accept(m marker) error {
	if err := m.judge(p.config); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.marker.Pool != "" && p.marker.Pool != m.Pool {
		return another(fault.New(fault.Precondition, "it belongs to pool %s, another disk of datastore %q to pool %s; use them as two datastores", m.Pool, p.name, p.marker.Pool))
	}
	return nil
}

// mend finishes what a crash left on a disk: a copy of the table or of a mark that is behind the other, a marker that says
// Starting or names another machine. The member's lock is held.
func (p *pool) mend(ctx context.Context, m *member, found *contents) error {
	stretched, grown := found.table.Stretched()
	moved := found.marker.Machine != p.config.MachineID
	behind := false
	for _, pair := range found.pairs {
		_, ok := pair.latest()
		behind = behind || ok && !pair.equal()
	}
	if !found.flaws.Any() && !grown && !moved && !behind && !found.marker.Starting {
		return nil
	}
	f, err := command.Await(ctx, p.tools.Command, "open disk "+m.path, func(context.Context) (*os.File, error) {
		return blockdev.Open(found.path, blockdev.Mode{Write: true, Direct: true})
	})
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // what was written was flushed
	if now, err := instanceOf(f); err != nil || now != found.instance {
		return errors.Join(errStale, err)
	}
	o := opened{m, p, f}
	if found.flaws.Any() || grown {
		if err := o.writeTable(ctx, stretched); err != nil {
			return err
		}
	}
	for n, pair := range found.pairs {
		if s, ok := pair.latest(); ok && !pair.equal() {
			if err := writeSlot(ctx, f, m.guid, n, pair.older(), s); err != nil {
				p.forget(m)
				return err
			}
		}
	}
	if !moved && !found.marker.Starting {
		return nil
	}
	now := found.marker
	now.Starting, now.Machine, now.Host = false, p.config.MachineID, p.config.Host
	if err := o.noteMarker(ctx, now); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.marker = common(now)
	return nil
}

// take makes a blank disk, or one of which an earlier try was cut off, a member.
func (p *pool) take(ctx context.Context, c candidate) (gpt.GUID, error) {
	if c.starting != nil {
		if err := p.accept(*c.starting); err != nil {
			return gpt.GUID{}, err
		}
	}
	p.mu.Lock()
	known := p.marker.Pool != ""
	if !known && c.starting != nil && !p.config.Inspect {
		p.marker, known = common(*c.starting), true
	}
	if !known && p.config.PoolUUID == "" && !p.config.Inspect {
		p.marker, known = p.newMarker(), true
	}
	m := p.marker
	p.mu.Unlock()
	if p.config.Inspect || !known {
		return gpt.GUID{}, fault.New(fault.NotFound, "it is blank, and no disk of the pool is there: it is not taken")
	}
	f, err := command.Await(ctx, p.tools.Command, "claim disk "+c.path, func(context.Context) (*os.File, error) {
		return blockdev.Open(c.path, blockdev.Mode{Write: true, Exclusive: true, Direct: true})
	})
	if err != nil {
		return gpt.GUID{}, err
	}
	defer func() { _ = f.Close() }() // what was written was flushed
	// Once more, while nobody else can take it, and by what is open: the path may lead elsewhere by now.
	path := file.PathForTool(f)
	now, err := p.examine(ctx, path)
	if err == nil && !now.blank && now.starting == nil {
		err = fault.New(fault.Unavailable, "it was taken meanwhile")
	}
	if err == nil && now.starting != nil {
		err = p.accept(*now.starting)
	}
	if err != nil {
		return gpt.GUID{}, err
	}
	guid, err := p.format(ctx, f, path, m)
	if err != nil {
		return gpt.GUID{}, err
	}
	again := p.look(ctx, c.path)
	if again.err != nil || again.found == nil || again.found.table.Disk != guid {
		return gpt.GUID{}, fault.New(fault.Unavailable, "what was written to it can't be read: %w", cmp.Or(again.err, errStale))
	}
	return guid, p.admit(ctx, again.found)
}

func (p *pool) newMarker() marker {
	return marker{
		Layout: layout, Pool: p.tools.NewUUID(), Cluster: p.config.ClusterID, Machine: p.config.MachineID,
		Datastore: p.name, Host: p.config.Host, Created: p.tools.Now().UTC(),
	}
}

// format writes metadata and table to a disk that is proven blank or was being taken.
func (p *pool) format(ctx context.Context, f *os.File, path string, m marker) (gpt.GUID, error) {
	size, sector, err := geometry(f)
	if err != nil {
		return gpt.GUID{}, err
	}
	if size < metaStart+metaBytes+2*gpt.MiB {
		return gpt.GUID{}, fault.New(fault.OutOfRange, "it has %d bytes, which leaves nothing beside the metadata", size)
	}
	names, err := blockdev.Identify(path)
	if err != nil {
		return gpt.GUID{}, err
	}
	id, err := uuid.Parse(p.tools.NewUUID())
	if err != nil {
		return gpt.GUID{}, fault.New(fault.Internal, "make a UUID: %w", err)
	}
	guid := gpt.GUID{UUID: id}
	t, err := gpt.New(guid, size, sector)
	if err != nil {
		return gpt.GUID{}, err
	}
	meta := gpt.Partition{Type: metadataType(), ID: gpt.Derived(id, "metadata")}.Named("datastore-csi")
	t.Partitions[0] = t.Placed(meta, gpt.Span{Start: metaStart, Bytes: metaBytes})
	m.WWID, m.Serial, m.Starting = names.WWID, names.Serial, true
	content, err := json.Marshal(m)
	if err != nil {
		return gpt.GUID{}, fault.New(fault.Internal, "encode the marker: %w", err)
	}
	if err := blockdev.ZeroAll(ctx, f, []blockdev.Range{{Start: metaStart, End: metaStart + metaBytes}}); err != nil {
		return gpt.GUID{}, err
	}
	if err := writeSlot(ctx, f, guid, 0, 0, slot{serial: 1, content: content}); err != nil {
		return gpt.GUID{}, err
	}
	return guid, gpt.Init(ctx, f, t)
}

// writeAt writes one half of a slot, durably.
func writeAt(ctx context.Context, f gpt.Disk, b []byte, half, number int) error {
	err := step.Do(ctx, "write a mark to "+f.Name(), func() error {
		if _, err := f.WriteAt(b, offset(half, number)); err != nil {
			return err
		}
		return f.Sync()
	})
	if err != nil {
		return fault.New(fault.Unavailable, "write mark %d of %s: %w", number, f.Name(), err)
	}
	return nil
}
