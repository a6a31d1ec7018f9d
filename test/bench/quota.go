package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// quotaDisk is the test bed's disk that the file system with quotas is made on.
const quotaDisk = "/dev/ubda"

// quota measures directories with a project quota beside the same system calls. Kernels without project quotas are common
// where tests run, so that it runs itself in the test bed's.
func (b *bench) quota(ctx context.Context) error {
	if b.vm == "" {
		b.say("quotas are not measured: no --vm")
		return nil
	}
	return b.insideBed(ctx, "-quota", fmt.Sprint(b.amounts.pairs))
}

// insideBed runs this program in the test bed's kernel, with those arguments, and takes over the figures that it prints.
func (b *bench) insideBed(ctx context.Context, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args = append([]string{
		"-disk", "40G", "-time", bedLimit.String(), "-share", filepath.Dir(b.driver), "-share", filepath.Dir(self),
		self, "-driver", b.driver, "-quick=" + fmt.Sprint(b.amounts.small),
	}, args...)
	cmd := exec.CommandContext(ctx, b.vm, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("in the test bed: %w", err)
	}
	// The kernel's console is not ours alone: the figures are its last line.
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	var found []floorFigures
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &found); err != nil {
		return fmt.Errorf("in the test bed: %w: %s", err, text)
	}
	b.report.Floors = append(b.report.Floors, found...)
	return nil
}

// printFloors prints the figures for insideBed.
func (b *bench) printFloors() error {
	text, err := json.Marshal(b.report.Floors)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(b.out, string(text))
	return err
}

// bed is a place in the test bed, by the name of its kernel.
func bed(path string) (place, error) {
	var u unix.Utsname
	err := unix.Uname(&u)
	return place{"User-Mode Linux " + unix.ByteSliceToString(u.Release[:]), path}, err
}

// quotaInside is what runs in the test bed: it prints its figures as JSON.
func quotaInside(ctx context.Context, o options) error {
	const at = "/mnt/bench"
	if err := errors.Join(os.MkdirAll(at, 0o700), harness.Mkfs("xfs", quotaDisk, "-K"),
		unix.Mount(quotaDisk, at, "xfs", 0, "prjquota")); err != nil {
		return err
	}
	b := newBench(o, at)
	where, err := bed(filepath.Join(at, "here"))
	if err != nil {
		return err
	}
	where.name = "xfs, " + where.name
	if err := os.Mkdir(where.path, 0o700); err != nil {
		return err
	}
	if err := b.floorsAt(ctx, where, limited()); err != nil {
		return err
	}
	return b.printFloors()
}
