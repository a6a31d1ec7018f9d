package faults

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/faults/crash"
	"github.com/datastore-csi/datastore-csi/test/harness"
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
	volume *harness.Volume
	data   harness.Data
	// deaths counts how often the driver died, duringLeave whether it was while the volume was taken down.
	deaths  int
	leaving bool
	again   bool // the data must be read back once more
	// dieAgain kills the driver that recovers at that point of its own; 0: never.
	dieAgain int
}

// run lives the life to its end.
func (l *life) run(ctx context.Context) error {
	v := l.volume
	grown := int64(0)
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"create", v.Create},
		{"attach", v.Attach},
		{"stage", v.Stage},
		{"publish", v.Publish},
		{"write", l.write},
		{"expand", func(ctx context.Context) error {
			if grown == 0 {
				grown = v.Size + 64*mib
			}
			_, err := v.Expand(ctx, grown)
			return err
		}},
		{"expand on the node", l.expandOnNode},
		{"read", l.read},
		{"begin to leave", func(context.Context) error { l.leaving = true; return nil }},
		{"unpublish", v.Unpublish},
		{"unstage", v.Unstage},
		{"detach", v.Detach},
		{"read again", l.readAgain},
		{"delete", v.Delete},
	}
	for _, s := range steps {
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

func (l *life) write(context.Context) error {
	if l.volume.Block {
		return l.data.WriteDevice(l.volume.Target, 0)
	}
	return l.data.WriteFile(filepath.Join(l.volume.Target, "data"))
}

func (l *life) read(context.Context) error {
	if l.volume.Block {
		return l.data.CheckDevice(l.volume.Target, 0)
	}
	return l.data.CheckFile(filepath.Join(l.volume.Target, "data"))
}

func (l *life) expandOnNode(ctx context.Context) error {
	if !l.volume.Block && !harness.GrowsMounted(l.volume.Filesystem) {
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
		return err
	})
}

// newLife prepares a life in a folder that is used by one life after another.
func newLife(t testing.TB, c *crash.Driver, dir string, claim harness.Claim) *life {
	t.Helper()
	claim.Name = harness.NewName()
	v, err := harness.NewVolume(c.Client, c.Host, dir, claim)
	if err != nil {
		t.Fatal(err)
	}
	return &life{Driver: c, volume: v, data: harness.Data{Seed: claim.Name, Bytes: mib}}
}
