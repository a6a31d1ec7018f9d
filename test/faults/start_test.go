package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/test/faults/crash"
	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// The first start makes the driver's records and the pool's marker: it may die at each change of that, and the next start
// goes on.
func TestTheFirstStartMayDieAtAnyPoint(t *testing.T) {
	t.Parallel()
	disk := harness.NewDisk(t, "ext4", 1<<30)
	dir := harness.Dir(t)
	tried := 0
	for at := 1; ; at++ {
		path := filepath.Join(disk.Path, fmt.Sprintf("pool-%d", at))
		o := harness.Options{Datastores: []harness.Datastore{harness.Directory(pool, path)}, Dir: filepath.Join(dir, fmt.Sprint(at))}
		if err := errors.Join(os.Mkdir(path, 0o755), os.Mkdir(o.Dir, 0o755)); err != nil {
			t.Fatal(err)
		}
		died, err := startAndDie(t, o, at)
		if err != nil {
			t.Fatalf("a first start that dies at point %d: %v", at, err)
		}
		if !died {
			break
		}
		tried++
	}
	if tried < 3 {
		t.Errorf("only %d points were found in a first start", tried)
	}
	fmt.Printf("crash matrix: first start: %d points, all tried\n", tried)
}

// startAndDie starts a driver on blank storage that dies at that point of any work, starts it again and lives a short life.
func startAndDie(t *testing.T, o harness.Options, at int) (died bool, err error) {
	t.Helper()
	o.Env = []string{crash.DiesAt(at)}
	c := crash.New(t, crash.AnyWork, o)
	ctx := t.Context()
	v, err := harness.NewVolume(c.Client, c.Host, o.Dir, harness.Claim{
		Name: "first", Filesystem: "ext4", Bytes: rows.Filesystems()["ext4"], Parameters: map[string]string{"datastore": pool},
	})
	if err != nil {
		return false, err
	}
	// The driver may die before it is ready, or just after: its pools are opened by themselves.
	if err := c.Start(ctx); err == nil {
		alive, cancel := context.WithTimeout(ctx, repeatLimit)
		defer cancel()
		go func() {
			select {
			case <-c.Ended():
				cancel()
			case <-alive.Done():
			}
		}()
		if err = harness.Retry(alive, v.Create); err == nil {
			if err = c.Arm(0); err == nil { // it got past the start
				return false, errors.Join(v.Delete(ctx), c.Stop())
			}
		}
	}
	select {
	case <-c.Ended():
	case <-time.After(deathLimit):
		return false, errors.New("it neither serves nor dies")
	}
	c.Env = c.Env[1:]
	if err := c.Start(ctx); err != nil {
		return true, err
	}
	if err := harness.Retry(ctx, v.Create); err != nil {
		return true, err
	}
	return true, errors.Join(v.Attach(ctx), v.Stage(ctx), v.Publish(ctx), v.Down(ctx), c.Stop())
}
