package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// bench measures, and knows what it has made.
type bench struct {
	options
	folder string
	report report

	made    int // numbers what is made in the folder
	drivers []*harness.Driver
	disks   []*harness.Disk
}

func newBench(o options, folder string) *bench { return &bench{options: o, folder: folder} }

// measure runs all parts that are wanted and writes down what they found, also where one of them failed.
func (b *bench) measure(ctx context.Context) error {
	began := time.Now()
	var err error
	if b.report.Machine, err = machine(b.driver, b.folder); err != nil {
		return err
	}
	var failed []error
	for _, p := range parts() {
		if !b.wants(p.name) || ctx.Err() != nil {
			continue
		}
		b.say("measuring %s", p.name)
		if err := p.run(b, ctx); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	b.report.Machine.LoadAfter = loadAverage()
	b.report.Seconds = time.Since(began).Round(time.Second).Seconds()
	b.report.Aims = b.report.aims()
	_, err = fmt.Fprint(b.out, b.report.tables())
	return errors.Join(errors.Join(failed...), err, b.save())
}

func (b *bench) save() error {
	if b.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(b.report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(b.json, append(text, '\n'), 0o644)
}

// say tells a person who waits how far it is.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}

// newFolder makes a folder in the bench's.
func (b *bench) newFolder(name string) (string, error) {
	b.made++
	path := filepath.Join(b.folder, fmt.Sprintf("%d-%s", b.made, name))
	return path, os.Mkdir(path, 0o700)
}

// place is a folder of a file system, for a datastore and for what is made by hand beside it.
type place struct{ name, path string }

// own is a place on the file system that the bench's folder lies on.
func (b *bench) own() (place, error) {
	path, err := b.newFolder("own")
	return place{b.report.Machine.Filesystem, path}, err
}

// disk is a place on a disk image that is written from end to end, so that no write to it needs new space.
func (b *bench) disk(ctx context.Context, fsType string) (place, error) {
	folder, err := b.newFolder("disk")
	if err != nil {
		return place{}, err
	}
	d, err := harness.MakeDisk(ctx, folder, fsType, b.amounts.diskBytes)
	if err != nil {
		return place{}, fmt.Errorf("make a %s disk: %w", fsType, err)
	}
	b.disks = append(b.disks, d)
	return place{fsType + " on a disk image", d.Path}, nil
}

// datastoreName is that of every driver's only datastore.
const datastoreName = "bench"

// start runs a driver with a datastore at a place; its state lies there too, outside of the datastore.
func (b *bench) start(ctx context.Context, at place) (*harness.Driver, error) {
	pool := filepath.Join(at.path, fmt.Sprintf("pool-%d", b.made))
	if err := os.Mkdir(pool, 0o700); err != nil {
		return nil, err
	}
	return b.startOn(ctx, at.path, harness.Directory(datastoreName, pool))
}

// claim is a volume in the datastore: bytes with that file system, or a raw one where it is "".
func claim(fsType string, bytes int64) harness.Claim {
	return harness.Claim{
		Bytes: bytes, Filesystem: fsType, Block: fsType == "",
		Parameters: map[string]string{"datastore": datastoreName},
	}
}

// volume prepares a volume, with the folders that kubelet would make.
func (b *bench) volume(d *harness.Driver, c harness.Claim) (*harness.Volume, error) {
	b.made++
	c.Name = harness.NewName()
	return harness.NewVolume(d.Client, d.Host, filepath.Join(d.Dir, "volumes", fmt.Sprint(b.made)), c)
}

// cleanUp ends the drivers and takes away what is mounted and attached below the folder, then the folder.
func (b *bench) cleanUp() error {
	var errs []error
	for _, d := range b.drivers {
		if d.Running() {
			errs = append(errs, d.Stop())
		}
		errs = append(errs, d.Close())
	}
	// Volumes of a run that broke off, then the disks below them.
	for range 2 {
		errs = append(errs, harness.UnmountUnder(b.folder), harness.DetachUnder(b.folder))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s is left as it is, to be taken away by hand: %w", b.folder, err)
	}
	return os.RemoveAll(b.folder)
}
