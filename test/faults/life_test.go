package faults

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/faults/crash"
	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

const (
	mib = int64(1) << 20

	// repeatLimit is how long a caller repeats what was interrupted.
	repeatLimit = time.Minute
	// deathLimit is how long it may take until a process that is dying is gone.
	deathLimit = time.Minute
)

// life is one volume's, with a driver that may die at any time.
type life struct {
	*crash.Driver
	storage rows.Storage
	plot    plot
	volume  *harness.Volume
	data    harness.Data
	// restored and cloned are copies of the volume, in the plot that has them.
	restored, cloned *harness.Volume
	// deaths counts how often the driver died, duringLeave whether it was while the volume was taken down.
	deaths  int
	leaving bool
	again   bool // the data must be read back once more
	// dieAgain kills the driver that recovers at that point of its own; 0: never.
	dieAgain int
}

// run lives the life to its end.
func (l *life) run(ctx context.Context) error {
	for _, s := range l.plot(l) {
		if err := l.call(ctx, s.do); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// call makes a call. Where the driver dies meanwhile it is started and the call repeated, as a CO does.
func (l *life) call(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, repeatLimit)
	defer cancel()
	for {
		if err := l.revive(ctx); err != nil {
			return err
		}
		err := do(ctx)
		if err == nil {
			return nil
		}
		if died, waitErr := l.died(err); waitErr != nil || !died {
			if waitErr != nil || l.deaths == 0 {
				return err
			}
			// What was interrupted may still be at work: the driver says so, and a caller comes again.
			return harness.Retry(ctx, do)
		}
	}
}

// died tells whether a call failed because the driver died.
func (l *life) died(err error) (bool, error) {
	if !l.Running() {
		return true, nil
	}
	if status.Code(err) != codes.Unavailable {
		return false, nil
	}
	// The connection breaks before the process is gone. A driver that answers is alive.
	limit := time.NewTimer(deathLimit)
	defer limit.Stop()
	probe := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), deathLimit)
	defer cancel()
	go func() { probe <- l.Ready(ctx) }()
	select {
	case <-l.Ended():
		return true, nil
	case err := <-probe:
		return false, err
	case <-limit.C:
		return false, fmt.Errorf("neither alive nor dead: %w", err)
	}
}

// revive starts the driver if it isn't running.
func (l *life) revive(ctx context.Context) error {
	for !l.Running() {
		l.deaths++
		l.again = l.again || l.leaving
		if l.dieAgain > 0 { // set for the first start of the two
			l.Env = append(l.Env, crash.DiesAt(l.dieAgain))
		}
		err := l.Start(ctx)
		if l.dieAgain > 0 {
			l.Env, l.dieAgain = l.Env[:len(l.Env)-1], 0
			if err != nil && !l.Running() {
				continue // died while it started
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settle waits until the driver did what it does after its answers, reviving it where it dies of that.
func (l *life) settle(ctx context.Context, camera harness.Camera, before harness.Photo) error {
	return harness.Eventually(ctx, repeatLimit, func() error {
		if err := l.revive(ctx); err != nil {
			return err
		}
		now, err := camera.Take()
		if err != nil {
			return err
		}
		if diff := before.Diff(now); diff != "" {
			return fmt.Errorf("the machine looks different:\n%s", diff)
		}
		listed, err := l.Listed(ctx)
		if err == nil && len(listed) > 0 {
			err = fmt.Errorf("after the life there are volumes: %v", listed)
		}
		snapshots, listErr := l.ListedSnapshots(ctx)
		if listErr == nil && len(snapshots) > 0 {
			listErr = fmt.Errorf("after the life there are snapshots: %v", snapshots)
		}
		return errors.Join(err, listErr)
	})
}

// newLife prepares a life in a folder that is used by one life after another.
func newLife(t testing.TB, c *crash.Driver, s rows.Storage, dir string, k kind) *life {
	t.Helper()
	l := &life{Driver: c, storage: s, plot: k.plot}
	for name, v := range map[string]**harness.Volume{"": &l.volume, "restored": &l.restored, "cloned": &l.cloned} {
		claim := k.claim
		claim.Name = harness.NewName()
		var err error
		if *v, err = harness.NewVolume(c.Client, c.Host, filepath.Join(dir, name), claim); err != nil {
			t.Fatal(err)
		}
	}
	l.data = harness.Data{Seed: l.volume.Name, Bytes: mib}
	return l
}
