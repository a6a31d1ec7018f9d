package disk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/gpt"
)

// member is a disk of the pool. Its fields but guid and lock are guarded by the pool's mu; whoever changes what is on the
// disk holds lock.
type member struct {
	guid gpt.GUID
	lock chan struct{}

	// path led to the disk last; "" while it isn't there, for which why says the reason.
	path     string
	why      error
	instance instance
	names    blockdev.Disk
	header   []byte
	table    gpt.Table
	marker   marker
	entries  []entry
}

// entry is what is known of a slot.
type entry struct {
	serial uint64
	// next is the half that the next writing begins with.
	next int
	// mark is nil where there is none; err says that there is one that can't be read.
	mark *mark
	err  error
}

// open is a disk that is open and proven to be the member, with the member's lock held.
type opened struct {
	*member
	pool *pool
	file *os.File
}

// errStale is a disk that isn't what was read before.
var errStale = errors.New("it has changed")

// with does something with a member's disk, which is opened and proven first, alone. Where the disk isn't what it was,
// all paths are looked at again: the disk may have another name by now, or another table.
func (p *pool) with(ctx context.Context, m *member, write bool, do func(opened) error) error {
	for again := range 2 {
		err := p.tryWith(ctx, m, write, do)
		if !errors.Is(err, errStale) {
			return err
		}
		if again == 0 {
			if err := p.scan(ctx); err != nil {
				return err
			}
		}
	}
	return fault.New(fault.Unavailable, "disk %s of datastore %q isn't there: %w", m.guid.Short(), p.name, p.whyMissing(m))
}

func (p *pool) tryWith(ctx context.Context, m *member, write bool, do func(opened) error) error {
	if err := m.hold(ctx); err != nil {
		return err
	}
	defer m.release()
	p.mu.Lock()
	path, is, want, sector := m.path, m.instance, m.header, m.table.SectorSize
	p.mu.Unlock()
	if path == "" {
		return errStale
	}
	f, err := command.Await(ctx, p.tools.Command, "open disk "+path, func(context.Context) (*os.File, error) {
		return prove(path, write, is, want, sector)
	})
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // what was written was flushed
	return do(opened{m, p, f})
}

// prove opens a disk and makes sure that it is the one that was read.
func prove(path string, write bool, is instance, want []byte, sector int) (*os.File, error) {
	f, err := blockdev.Open(path, blockdev.Mode{Write: write, Direct: true})
	if fault.Is(err, fault.NotFound) {
		return nil, errStale
	}
	if err != nil {
		return nil, fault.As(fault.Unavailable, err)
	}
	now, err := instanceOf(f)
	if err != nil || now != is {
		err = errStale // also where nothing is behind the device any more
	}
	var is0 []byte
	if err == nil {
		is0, err = header(f, sector)
	}
	if err == nil && !bytes.Equal(is0, want) {
		err = errStale
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// current returns what is known of the member that a path led to, where it still does, and nothing has changed there.
func (p *pool) current(ctx context.Context, path string) *contents {
	p.mu.Lock()
	var m *member
	for _, other := range p.members {
		if other.path == path {
			m = other
		}
	}
	p.mu.Unlock()
	if m == nil {
		return nil
	}
	var is contents
	err := p.tryWith(ctx, m, false, func(o opened) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		is = contents{path: path, instance: m.instance, names: m.names, table: m.table, marker: m.marker, kept: true}
		return nil
	})
	if err != nil {
		return nil
	}
	return &is
}

func (m *member) hold(ctx context.Context) error {
	select {
	case m.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *member) release() { <-m.lock }

// entry returns what is known of a slot.
func (o opened) entry(number int) entry {
	o.pool.mu.Lock()
	defer o.pool.mu.Unlock()
	return o.entries[number]
}

// partition returns a partition as the table has it.
func (o opened) partition(number int) gpt.Partition {
	o.pool.mu.Lock()
	defer o.pool.mu.Unlock()
	return o.table.Partitions[number-1]
}

// note writes a mark, durably, to both halves of its slot.
func (o opened) note(ctx context.Context, number int, k mark) error {
	content, err := json.Marshal(k)
	if err != nil {
		return fault.New(fault.Internal, "encode the mark of %s: %w", k.ID, err)
	}
	return o.put(ctx, number, content, func(e *entry) { e.mark, e.err = &k, nil })
}

// clear takes a mark away.
func (o opened) clear(ctx context.Context, number int) error {
	return o.put(ctx, number, nil, func(e *entry) { e.mark, e.err = nil, nil })
}

// mark writes the disk's marker.
func (o opened) noteMarker(ctx context.Context, m marker) error {
	content, err := json.Marshal(m)
	if err != nil {
		return fault.New(fault.Internal, "encode the marker of %s: %w", o.file.Name(), err)
	}
	return o.put(ctx, 0, content, func(*entry) { o.marker = m })
}

// put writes a slot's content to the half that doesn't count, then to the other, and remembers it.
func (o opened) put(ctx context.Context, number int, content []byte, remember func(*entry)) error {
	if len(content) > maxContent {
		return fault.New(fault.Invalid, "it would need a mark of %d bytes, there is room for %d: give it fewer or shorter labels and parameters", len(content), maxContent)
	}
	e := o.entry(number)
	s := slot{serial: e.serial + 1, content: content}
	if err := writeSlot(ctx, o.file, o.guid, number, e.next, s); err != nil {
		// Which half counts now can't be known: what is there is read again before anything else is done.
		o.pool.forget(o.member)
		return err
	}
	o.pool.mu.Lock()
	defer o.pool.mu.Unlock()
	at := &o.entries[number]
	at.serial, at.next = s.serial, e.next
	remember(at)
	return nil
}

// writeSlot writes both halves of a slot, each durably before the next: the first half is given.
func writeSlot(ctx context.Context, f gpt.Disk, disk gpt.GUID, number, first int, s slot) error {
	b := s.encode(number, disk)
	for _, half := range []int{first, 1 - first} {
		if err := writeAt(ctx, f, b, half, number); err != nil {
			return err
		}
	}
	return nil
}

// change writes the table, altered, and remembers it.
func (o opened) change(ctx context.Context, alter func(*gpt.Table)) error {
	o.pool.mu.Lock()
	t := o.table.Clone()
	o.pool.mu.Unlock()
	alter(&t)
	return o.writeTable(ctx, t)
}

func (o opened) writeTable(ctx context.Context, t gpt.Table) error {
	if err := gpt.Write(ctx, o.file, t); err != nil {
		o.pool.forget(o.member)
		return err
	}
	h, err := header(o.file, t.SectorSize)
	if err != nil {
		o.pool.forget(o.member)
		return err
	}
	o.pool.mu.Lock()
	defer o.pool.mu.Unlock()
	o.table, o.header = t, h
	return nil
}

// forget has a member read again before anything else is done with it.
func (p *pool) forget(m *member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.header = nil
}

func (p *pool) whyMissing(m *member) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.why != nil {
		return m.why
	}
	return fault.New(fault.Unavailable, "none of spec.disk.devices leads to it")
}

// free returns what of a disk can be taken. The pool's mu is held.
func (m *member) free() []gpt.Span {
	var taken []gpt.Span
	for n, e := range m.entries {
		if e.mark != nil && (!e.mark.keeps() || m.lies(n)) {
			taken = append(taken, e.mark.takes())
		}
	}
	return m.table.Free(taken...)
}

// lies tells whether the table has a partition of that number. The pool's mu is held.
func (m *member) lies(n int) bool {
	return n > 0 && n <= len(m.table.Partitions) && m.table.Partitions[n-1].Used()
}

// clean tells whether a free place reads as zeroes. The pool's mu is held.
func (m *member) clean(s gpt.Span) bool {
	return slices.ContainsFunc(m.marker.Clean, func(c gpt.Span) bool { return c.Start <= s.Start && s.End() <= c.End() })
}

// present tells whether a disk is there, as far as is known. The pool's mu is held.
func (m *member) present() bool { return m.path != "" }

// adopt takes over what was read of a disk. The pool's mu is held, and the member's lock.
func (m *member) adopt(c *contents) {
	m.path, m.why, m.instance, m.names = c.path, nil, c.instance, c.names
	m.header, m.table, m.marker = c.header, c.table, c.marker
	m.entries = make([]entry, slots)
	for n, pair := range c.pairs {
		e := &m.entries[n]
		e.next = pair.older()
		s, ok := pair.latest()
		e.serial = s.serial
		switch {
		case !ok:
			e.err = fault.New(fault.Precondition, "neither copy of its mark can be read")
			e.serial = max(pair.halves[0].serial, pair.halves[1].serial)
		case n == 0 || len(s.content) == 0:
		default:
			k, err := parseMark(s.content)
			if err != nil {
				e.err = err
				continue
			}
			e.mark = &k
		}
	}
	for i, part := range m.table.Partitions {
		if n := i + 1; n > 1 && n < slots && part.Used() && m.entries[n].mark == nil && m.entries[n].err == nil {
			m.marker.Clean = without(m.marker.Clean, m.table.Span(part)) // somebody else's
		}
	}
}

// joined adds a span to a list of others in order, joining those that touch.
func joined(list []gpt.Span, s gpt.Span) []gpt.Span {
	all := append(slices.Clone(list), s)
	slices.SortFunc(all, func(a, b gpt.Span) int { return int(min(max(a.Start-b.Start, -1), 1)) })
	out := all[:1]
	for _, next := range all[1:] {
		last := &out[len(out)-1]
		if next.Start <= last.End() {
			last.Bytes = max(last.End(), next.End()) - last.Start
			continue
		}
		out = append(out, next)
	}
	return out
}

// without takes a span out of a list of others.
func without(list []gpt.Span, s gpt.Span) []gpt.Span {
	var out []gpt.Span
	for _, c := range list {
		if !c.Overlaps(s) {
			out = append(out, c)
			continue
		}
		if c.Start < s.Start {
			out = append(out, gpt.Span{Start: c.Start, Bytes: s.Start - c.Start})
		}
		if c.End() > s.End() {
			out = append(out, gpt.Span{Start: s.End(), Bytes: c.End() - s.End()})
		}
	}
	return out
}
