package logwrites

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// What the host tells the guest, in the environment.
const (
	poolVariable   = "DATASTORE_CSI_TEST_POOL" // the file system of the pool; set in a machine only
	binaryVariable = "DATASTORE_CSI_TEST_BINARY"
)

const (
	// The machine's disks: what is written to the first stands in the log on the second.
	poolDisk, logDisk = "/dev/ubda", "/dev/ubdb"
	logged            = "/dev/mapper/logged"
	storePath         = "/store"

	// actLimit bounds what an act may take in a slow machine.
	actLimit = 2 * time.Minute
)

// The marks in the log.
const (
	markMade = "made" // the file system
	// markBegin and markEnd stand before the number of an act.
	markBegin, markEnd = "begin:", "end:"
)

// runGuest records a life, and returns the exit code.
func runGuest() int {
	if err := record(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		return 1
	}
	return 0
}

func mark(text string) error { return harness.Run("dmsetup", "message", "logged", "0", "mark", text) }

func record(ctx context.Context) error {
	fs := os.Getenv(poolVariable)
	bytes, err := harness.DeviceBytes(poolDisk)
	if err != nil {
		return err
	}
	table := fmt.Sprintf("0 %d log-writes %s %s", bytes/512, poolDisk, logDisk)
	if err := harness.Run("dmsetup", "create", "logged", "--table", table); err != nil {
		return err
	}
	keep := map[string][]string{"ext4": {"-E", "nodiscard"}, "xfs": {"-K"}, "btrfs": {"-K"}}[fs] // the disk is blank
	if err := harness.Mkfs(fs, logged, keep...); err != nil {
		return err
	}
	if err := os.Mkdir(storePath, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(logged, storePath, fs, 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", logged, err)
	}
	if err := errors.Join(os.Mkdir(storePath+"/pool", 0o755), os.Mkdir("/host", 0o755)); err != nil {
		return err
	}
	unix.Sync()
	if err := mark(markMade); err != nil {
		return err
	}
	d, err := newDriver("/host", storePath, os.Getenv(binaryVariable))
	if err != nil {
		return err
	}
	if err := d.Start(ctx); err != nil {
		return err
	}
	if err := play(ctx, actor{d, "/host/volumes"}, script(fs != "ext4")); err != nil {
		return fmt.Errorf("%w\nthe calls:\n%s\nthe driver's log:\n%s", err, d.Calls(30), d.Log())
	}
	if err := d.Stop(); err != nil {
		return err
	}
	return errors.Join(unix.Unmount(storePath, 0), harness.Run("dmsetup", "remove", "logged"))
}

// newDriver prepares a driver whose records and pool lie on one file system.
func newDriver(dir, store, binary string) (*harness.Driver, error) {
	d, err := harness.PrepareDriver(harness.Options{
		Dir: dir, Program: binary, Datastores: []harness.Datastore{harness.Directory(pool, store+"/pool")},
	})
	if err == nil {
		d.StateDir = store + "/state"
	}
	return d, err
}

// play does the acts, with a mark before and behind each.
func play(ctx context.Context, c actor, acts []act) error {
	for i, a := range acts {
		ctx, cancel := context.WithTimeout(ctx, actLimit)
		begin := time.Now()
		err := mark(fmt.Sprintf("%s%d", markBegin, i))
		if err == nil {
			err = c.do(ctx, i, a, after(acts[:i]))
		}
		cancel()
		if err == nil {
			err = mark(fmt.Sprintf("%s%d", markEnd, i))
		}
		if err != nil {
			return err
		}
		fmt.Printf("%s %v\n", strings.TrimSpace(a.String()), time.Since(begin).Round(time.Millisecond))
	}
	return nil
}
