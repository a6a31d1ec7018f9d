package conformance

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// use is a volume kind with the data that it holds.
type used struct {
	*harness.Volume
	data []harness.Data
}

// usedOfEachKind brings a volume of each kind up and writes into it.
func usedOfEachKind(t *testing.T, b bench) []*used {
	t.Helper()
	var all []*used
	for name, c := range b.someKinds() {
		u := &used{Volume: b.Volume(t, c)}
		must(t, u.Up(t.Context()))
		u.write(t, "written to "+name)
		all = append(all, u)
	}
	return all
}

func (u *used) write(t *testing.T, seed string) {
	t.Helper()
	d := harness.Data{Seed: seed, Bytes: mib + 1}
	must(t, store(u.Volume, d, u.offset(len(u.data))))
	u.data = append(u.data, d)
}

func (u *used) offset(i int) int64 { return int64(i) * 2 * mib }

func (u *used) check(t *testing.T, when string) {
	t.Helper()
	for i, d := range u.data {
		if err := holds(u.Volume, d, u.offset(i)); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
}

func TestDataOutlivesTheDriversRestartsAndCrashes(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		all := usedOfEachKind(t, b)
		turns := []struct {
			name string
			do   func(context.Context) error
		}{{"a restart", b.Restart}, {"kill -9", b.Crash}, {"a second kill -9", b.Crash}}
		for _, turn := range turns {
			must(t, turn.do(ctx))
			for i, u := range all {
				u.check(t, "mounted through "+turn.name)
				u.write(t, fmt.Sprintf("after %s %d", turn.name, i))
				// The CO may not know what it had done: it says all again.
				must(t, u.Attach(ctx))
				must(t, u.Stage(ctx))
				must(t, u.Publish(ctx))
				u.check(t, "published again after "+turn.name)
			}
		}
		for _, u := range all {
			must(t, u.Unpublish(ctx))
			must(t, u.Unstage(ctx))
			must(t, u.Detach(ctx))
		}
		must(t, b.Crash(ctx))
		for _, u := range all {
			must(t, u.Attach(ctx))
			must(t, u.Stage(ctx))
			must(t, u.Publish(ctx))
			u.check(t, "attached anew")
			must(t, u.Down(ctx))
		}
	})
}

func TestWritingGoesOnWhileTheDriverIsKilledAndTheVolumeGrows(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		all := usedOfEachKind(t, b)
		// The writers stop with the test's turns below, not with a time.
		stop := make(chan struct{})
		var writers errgroup.Group
		for _, u := range all {
			writers.Go(func() error { return keepWriting(u, stop) })
		}
		growing := all
		if b.Can().Behind { // the last has nobody behind it
			growing = all[len(all)-1:]
		}
		for range 2 {
			must(t, b.Crash(ctx))
			for _, u := range growing {
				grow(t, u.Volume, u.Size+100*mib, true)
			}
		}
		close(stop)
		must(t, writers.Wait())
		for _, u := range all {
			u.check(t, "after growing under load")
			must(t, u.Down(ctx))
		}
	})
}

// keepWriting writes and reads back until it is stopped; each error is one that a pod would have seen.
func keepWriting(u *used, stop <-chan struct{}) error {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		d := harness.Data{Seed: fmt.Sprintf("load %d", i%4), Bytes: 512 << 10}
		if u.Block {
			if err := d.WriteDevice(u.Target, 8*mib); err != nil {
				return err
			}
			if err := d.CheckDevice(u.Target, 8*mib); err != nil {
				return err
			}
			continue
		}
		path := filepath.Join(u.Target, d.Seed)
		if i < 4 {
			if err := d.WriteFile(path); err != nil {
				return err
			}
		}
		if err := d.CheckFile(path); err != nil {
			return err
		}
	}
}
