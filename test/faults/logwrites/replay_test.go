package logwrites

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// prefix is how far a log is replayed.
type prefix struct {
	entries int
	// done acts were acknowledged by then, begun is one that was under way, or -1.
	done, begun int
}

// prefixes finds those of a log that begin with a whole file system: those that end with a flush, and those between two.
func prefixes(log *Log) (flushed, between []prefix, err error) {
	made := false
	p := prefix{begun: -1}
	for i, e := range log.Entries {
		made = made || e.Mark == markMade
		for word, set := range map[string]func(int){
			markBegin: func(n int) { p.begun = n }, markEnd: func(n int) { p.done, p.begun = n+1, -1 },
		} {
			if number, is := strings.CutPrefix(e.Mark, word); is {
				n, err := strconv.Atoi(number)
				if err != nil {
					return nil, nil, fmt.Errorf("mark %q: %w", e.Mark, err)
				}
				set(n)
			}
		}
		p.entries = i + 1
		switch {
		case !made || e.Mark != "":
		case e.Safe():
			flushed = append(flushed, p)
		default:
			between = append(between, p)
		}
	}
	return flushed, between, nil
}

// sample takes so many of all, in equal steps, from another place each day.
func sample(all []prefix, most int) []prefix {
	if most >= len(all) {
		return all
	}
	var out []prefix
	shift := time.Now().YearDay() * 7919
	for i := range most {
		out = append(out, all[(i*len(all)/most+shift)%len(all)])
	}
	return out
}

// image is a file that a log is replayed onto.
type image struct{ *os.File }

// Discard makes a part read as zeroes.
func (i image) Discard(offset, bytes int64) error {
	return unix.Fallocate(int(i.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, bytes)
}

// replayer looks at one prefix after the other.
type replayer struct {
	fs, dir, binary string
	log             *Log
	acts            []act
	base            image
	at              int // what of the log stands in base
	fsck            bool
}

// look replays up to a prefix, and checks it on a copy.
func (r *replayer) look(ctx context.Context, p prefix) (err error) {
	if err := r.log.Replay(r.base, r.at, p.entries); err != nil {
		return err
	}
	r.at = p.entries
	dir := filepath.Join(r.dir, strconv.Itoa(p.entries))
	disk := &harness.Disk{Type: r.fs, Image: filepath.Join(dir, "disk.img"), Path: filepath.Join(dir, "store")}
	if err := os.MkdirAll(disk.Path, 0o755); err != nil {
		return err
	}
	if err := harness.Run("cp", "--sparse=auto", r.base.Name(), disk.Image); err != nil {
		return err
	}
	if err := r.mount(disk); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	err = r.live(ctx, dir, disk.Path, p)
	return errors.Join(err, r.unmount(disk), os.RemoveAll(dir))
}

// mount mounts what was replayed. btrfs knows file systems by their ID and refuses an older state of one that it saw, also on a device that
// is gone: it is told to forget what isn't mounted, which it finds again when somebody mounts it.
func (r *replayer) mount(disk *harness.Disk) error {
	if r.fs == "btrfs" {
		if err := harness.Run("btrfs", "device", "scan", "--forget"); err != nil {
			return err
		}
	}
	return disk.Mount(0)
}

// unmount ends a look.
func (r *replayer) unmount(disk *harness.Disk) error {
	if err := disk.Unmount(); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	var err error
	if r.fsck {
		check := map[string][]string{"ext4": {"e2fsck", "-fn"}, "xfs": {"xfs_repair", "-n"}, "btrfs": {"btrfs", "check"}}[r.fs]
		err = errors.Join(err, harness.Run(check[0], append(check[1:], disk.Image)...))
	}
	return err
}

// live starts a driver on what a prefix left, checks it, repeats what was under way, checks that, and ends all lives.
func (r *replayer) live(ctx context.Context, dir, store string, p prefix) (err error) {
	d, err := newDriver(dir, store, r.binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Start(ctx); err != nil {
		return err
	}
	c := actor{d, filepath.Join(dir, "volumes")}
	err = r.recovered(ctx, c, p)
	if err == nil {
		err = c.leave(ctx)
	}
	if err == nil {
		err = harness.Eventually(ctx, actLimit, func() error { return r.nothingLeft(store, p) })
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%w\nthe calls:\n%s\nthe driver's log:\n%s", err, d.Calls(30), d.Log()), d.Kill(), harness.UnmountUnder(c.dir))
	}
	return d.Stop()
}

// recovered checks what must be there.
func (r *replayer) recovered(ctx context.Context, c actor, p prefix) error {
	err := harness.Eventually(ctx, actLimit, func() error {
		bytes, err := c.Available(ctx, pool)
		if err == nil && bytes == 0 {
			err = errors.New("the pool isn't open, or has no room")
		}
		return err
	})
	if err != nil {
		return err
	}
	before := after(r.acts[:p.done])
	now := before
	if p.begun >= 0 {
		now = after(r.acts[:p.begun+1])
	}
	if err := c.listed(ctx, before, now); err != nil {
		return fmt.Errorf("before anything is repeated: %w", err)
	}
	if p.begun >= 0 && r.acts[p.begun].verb != "write" {
		if err := c.do(ctx, p.begun, r.acts[p.begun], before); err != nil {
			return fmt.Errorf("again: %w", err)
		}
		before = now
	}
	if err := c.listed(ctx, before, now); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(before.things)) {
		if err := c.holds(ctx, name, before.things[name], now.things[name]); err != nil {
			return err
		}
	}
	return nil
}

// listed checks that all is listed that surely is there, and nothing that surely isn't.
func (c actor) listed(ctx context.Context, before, now state) error {
	volumes, err := c.Listed(ctx)
	if err != nil {
		return err
	}
	snapshots, err := c.ListedSnapshots(ctx)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for name := range volumes {
		there[name] = true
	}
	for name, s := range snapshots {
		there[name] = s.GetReadyToUse()
	}
	for name := range there {
		_, was := before.things[name]
		if _, is := now.things[name]; !was && !is {
			return fmt.Errorf("%s is listed and must not be there", name)
		}
	}
	for name := range before.things {
		if _, is := now.things[name]; is && !there[name] {
			return fmt.Errorf("%s was acknowledged and isn't listed", name)
		}
	}
	return nil
}

// holds brings a volume up, or one that is restored from a snapshot, and reads what was written.
func (c actor) holds(ctx context.Context, name string, t, perhaps thing) error {
	as := name
	if t.snapshot {
		as, t.claim.Name = "look", "look"
	}
	v, err := c.volume(as, t)
	if err != nil {
		return err
	}
	calls := []func(context.Context) error{v.Attach, v.Stage, v.Publish}
	if t.snapshot {
		v.From = c.snapshot(name, "").Source()
		calls = append([]func(context.Context) error{v.Create}, calls...)
	}
	for _, call := range calls {
		if err := harness.Retry(ctx, call); err != nil {
			return fmt.Errorf("bring %s up: %w", name, err)
		}
	}
	for n, seed := range t.seeds {
		var err error
		if v.Block {
			err = data(seed).CheckDevice(v.Target, int64(n)*dataBytes)
		} else {
			err = data(seed).CheckFile(file(v, n))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if n := max(len(t.seeds), len(perhaps.seeds)); !v.Block {
		if _, err := os.Stat(file(v, n)); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s holds more than was written (%w)", name, err)
		}
	}
	return nil
}

// leave ends all that is listed.
func (c actor) leave(ctx context.Context) error {
	volumes, err := c.Listed(ctx)
	if err != nil {
		return err
	}
	snapshots, err := c.ListedSnapshots(ctx)
	if err != nil {
		return err
	}
	for name := range volumes {
		v, err := c.volume(name, thing{})
		if err != nil {
			return err
		}
		for _, call := range []func(context.Context) error{v.Unpublish, v.Unstage, v.Detach, v.Delete} {
			if err := harness.Retry(ctx, call); err != nil {
				return fmt.Errorf("end %s: %w", name, err)
			}
		}
	}
	for name := range snapshots {
		if err := harness.Retry(ctx, c.snapshot(name, "").Delete); err != nil {
			return fmt.Errorf("end snapshot %s: %w", name, err)
		}
	}
	return nil
}

// nothingLeft checks the storage once all is deleted.
func (r *replayer) nothingLeft(store string, p prefix) error {
	want := map[string]int{"volumes": 0, "snapshots": 0, ".datastore-csi/tmp": 0, ".datastore-csi/trash": 0}
	acts := r.acts[:max(p.done, p.begun+1)]
	if last := len(acts) - 1; p.begun >= 0 && acts[last].verb == "write" {
		acts = acts[:last]
	}
	s := after(acts)
	want["archived"] = s.archived
	for _, t := range s.things {
		if t.archive {
			want["archived"]++
		}
	}
	for folder, most := range want {
		entries, err := os.ReadDir(filepath.Join(store, "pool", folder))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if len(entries) != most {
			return fmt.Errorf("in %s lie %v, want %d", folder, entries, most)
		}
	}
	records, err := os.ReadDir(filepath.Join(store, "state", "stage"))
	if err == nil && len(records) > 0 {
		err = fmt.Errorf("stage records are left: %v", records)
	}
	return err
}
