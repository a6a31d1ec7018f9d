package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// blockDisk is the test bed's disk that a block pool is made of.
const blockDisk = "/dev/ubda"

// fewBlock are the volumes of the tool that exist where few do.
const fewBlock = 10

// The comparisons of a block pool.
const (
	blockCreate = "CreateVolume, raw block"
	blockDelete = "DeleteVolume, raw block"
	blockFormat = "CreateVolume, ext4"
	blockAll    = "create and delete, 16 callers beside a loop of the tool"
)

// bare does with the bare tool what a block pool does for a volume. Calls come one at a time.
type bare interface {
	// create makes the i-th volume, with that file system or none ("").
	create(i int, bytes int64, fsType string) error
	remove(i int) error
	// parts say what that is, for the reader.
	parts() string
}

// blockPool is a kind of block pool.
type blockPool struct {
	name string
	// most volumes that it can have beside those that are measured.
	most int
	// make makes blank storage into what the driver's datastore and the bare tool share.
	make func(b *bench) (harness.Datastore, bare, error)
}

// blockPools are those of a type of datastore.
func blockPools() map[string][]blockPool {
	return map[string][]blockPool{
		"lvm":       {{"thick logical volume", 1000, thickPool}, {"thin logical volume", 1000, thinPool}},
		"disk":      {{"partition of a disk", 60, diskPool}},
		"partition": {{"image on a partition", 1000, partitionPool}},
	}
}

// block measures the types of datastore that were asked for by name, each in the test bed's kernel.
func (b *bench) block(ctx context.Context) error {
	for _, name := range b.types {
		b.say("measuring type %s in the test bed", name)
		if err := b.insideBed(ctx, "-block", name); err != nil {
			return fmt.Errorf("type %s: %w", name, err)
		}
	}
	return nil
}

// blockInside is what runs in the test bed: it prints its figures as JSON.
func blockInside(ctx context.Context, o options, name string) (err error) {
	folder, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	b := newBench(o, folder)
	for _, p := range blockPools()[name] {
		if err := b.blockPool(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return b.printFloors()
}

// blockPool measures one kind of pool, with few volumes and with many.
func (b *bench) blockPool(ctx context.Context, p blockPool) error {
	at, err := bed(b.folder)
	if err != nil {
		return err
	}
	d, hand, err := p.make(b)
	if err != nil {
		return err
	}
	driver, err := b.startOn(ctx, b.folder, d)
	if err != nil {
		return err
	}
	m := &blockPairing{bench: b, driver: driver, hand: hand, at: at, pool: p.name, most: p.most}
	err = m.measure(ctx)
	return errors.Join(err, driver.Stop(), harness.Run("sh", "-c", wipeDisk))
}

// wipeDisk makes the disk blank again. What lies on it is none of the driver's business any more.
const wipeDisk = `umount -A ` + blockDisk + ` 2>/dev/null; vgchange -qq -an 2>/dev/null; vgremove -qq -ff -y bench 2>/dev/null; ` +
	`dmsetup remove_all 2>/dev/null; wipefs -qaf ` + blockDisk + `; for p in /sys/block/ubda/ubda*; do [ -d "$p" ] && delpart ` + blockDisk +
	` "${p##*ubda}"; done; blockdev --flushbufs ` + blockDisk

// blockPairing has the driver and the bare tool take turns on one pool.
type blockPairing struct {
	bench  *bench
	driver *harness.Driver
	hand   bare
	at     place
	pool   string
	most   int
	made   int // by the tool
}

func (m *blockPairing) measure(ctx context.Context) error {
	if err := m.turns(ctx, fewBlock); err != nil {
		return err
	}
	if err := m.together(ctx); err != nil {
		return err
	}
	for _, existing := range m.bench.amounts.blockExisting {
		existing = min(existing, m.most)
		for m.made < existing {
			if err := m.hand.create(m.made, blockBytes, ""); err != nil {
				return fmt.Errorf("make %d volumes by the tool: %w", existing, err)
			}
			m.made++
		}
		if err := m.turns(ctx, existing); err != nil {
			return err
		}
	}
	for m.made--; m.made >= 0; m.made-- {
		if err := m.hand.remove(m.made); err != nil {
			return err
		}
	}
	m.made = 0
	return nil
}

// blockBytes is the size of each volume: a multiple of all granularities.
const blockBytes = 32 * mib

// turns compares single calls, while so many volumes exist.
func (m *blockPairing) turns(ctx context.Context, existing int) error {
	n := m.bench.amounts.pairs
	for m.made < min(existing, fewBlock) {
		if err := m.hand.create(m.made, blockBytes, ""); err != nil {
			return err
		}
		m.made++
	}
	for _, fsType := range []string{"", "ext4"} {
		volumes := make([]*harness.Volume, n)
		for i := range volumes {
			var err error
			if volumes[i], err = m.bench.volume(m.driver, claim(fsType, blockBytes)); err != nil {
				return err
			}
		}
		create, remove := blockCreate, blockDelete
		if fsType != "" {
			create, remove = blockFormat, ""
		}
		err := m.note(ctx, create, existing, n,
			rival{do: func(ctx context.Context, i int) error { return volumes[i].Create(ctx) }},
			rival{do: func(_ context.Context, i int) error { return m.hand.create(m.made+i, blockBytes, fsType) }})
		if err != nil {
			return err
		}
		err = m.note(ctx, remove, existing, n,
			rival{do: func(ctx context.Context, i int) error { return volumes[i].Delete(ctx) }},
			rival{do: func(_ context.Context, i int) error { return m.hand.remove(m.made + i) }})
		if err != nil {
			return err
		}
	}
	return nil
}

// together compares what many callers of the driver get done with a loop of the tool, creation and deletion.
func (m *blockPairing) together(ctx context.Context) error {
	n := m.bench.amounts.blockTogether
	volumes := make([]*harness.Volume, n)
	for i := range volumes {
		var err error
		if volumes[i], err = m.bench.volume(m.driver, claim("", blockBytes)); err != nil {
			return err
		}
	}
	return m.note(ctx, blockAll, fewBlock, 1, rival{do: func(ctx context.Context, _ int) error {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(together)
		for _, v := range volumes {
			group.Go(func() error { return errors.Join(v.Create(ctx), v.Delete(ctx)) })
		}
		return group.Wait()
	}}, rival{do: func(context.Context, int) error {
		for i := range n {
			if err := errors.Join(m.hand.create(m.made+i, blockBytes, ""), m.hand.remove(m.made+i)); err != nil {
				return err
			}
		}
		return nil
	}})
}

// note compares two and adds what came of it to the report; name "" is not reported.
func (m *blockPairing) note(ctx context.Context, name string, existing, turns int, driver, hand rival) error {
	a, b, err := compare(ctx, turns, driver, hand)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if name == "" {
		return nil
	}
	f := floorFigures{
		Name: name, Volume: fmt.Sprintf("%s among %d", m.pool, existing), Place: m.at.name, Unit: "ms",
		Driver: sum(a).P50, Hand: sum(b).P50, Parts: m.hand.parts(),
	}
	f.Ratio = round(f.Driver/f.Hand, 2)
	m.bench.report.Floors = append(m.bench.report.Floors, f)
	return nil
}

// The aims of block pools, as ratios to the bare tool on the same storage in the same run.
const (
	mostOverTool = 1.15
	mostTogether = 1.0
	mostGrowth   = 1.2
)

// blockAims judges what was measured of block pools.
func (r *report) blockAims() []aim {
	var out []aim
	first := map[string]float64{}
	for _, f := range r.Floors {
		kind, existing, ok := strings.Cut(f.Volume, " among ")
		what := fmt.Sprintf("%s of a %s", f.Name, f.Volume)
		switch {
		case !ok:
			continue
		case f.Name == blockAll:
			out = append(out, atMost(what, f.Ratio, mostTogether, "of the tool"))
		case existing == fmt.Sprint(fewBlock) && slices.Contains([]string{blockCreate, blockDelete, blockFormat}, f.Name):
			first[kind+f.Name] = f.Ratio
			out = append(out, atMost(what, f.Ratio, mostOverTool, "of the tool"))
		case f.Name == blockCreate && first[kind+f.Name] > 0:
			out = append(out, atMost(what+", beside that among few", round(f.Ratio/first[kind+f.Name], 2), mostGrowth, "times"))
		}
	}
	return out
}

// startOn runs a driver with one datastore, its own files in a folder.
func (b *bench) startOn(ctx context.Context, folder string, on harness.Datastore) (*harness.Driver, error) {
	b.made++
	dir := filepath.Join(folder, fmt.Sprintf("driver-%d", b.made))
	log := filepath.Join(dir, "log")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(log, 0o700)); err != nil {
		return nil, err
	}
	d, err := harness.PrepareDriver(harness.Options{
		Datastores: []harness.Datastore{on}, Dir: dir, Program: b.driver, Log: filepath.Join(log, "driver.log"),
	})
	if err != nil {
		return nil, err
	}
	b.drivers = append(b.drivers, d)
	return d, d.Start(ctx)
}

// bedLimit bounds a measurement in the test bed.
const bedLimit = time.Hour
