package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// options say what is measured, and where.
type options struct {
	driver, folder, json, vm string
	only                     []string
	// types of block pools, for the part of that name.
	types   []string
	amounts amounts
	out     io.Writer
}

// amounts say how much of everything is measured.
type amounts struct {
	// rounds are repeated, and their median is taken; lives are those of one round, at one caller and at many.
	rounds, livesAlone, livesTogether int
	// pairs are the turns of driver and floor.
	pairs int
	// existing volumes, in rising numbers; formatted are those with a file system.
	existing  []int
	formatted []int
	// calls are measured at each number of existing volumes, starts are those of the process.
	calls, starts int
	// idle is how long the driver has nothing to do before its memory is looked at: longer than it takes between two
	// measurements of a pool.
	idle time.Duration
	// ioBytes are read and written in turn, ioCalls are the random ones of a turn, ioPairs the turns.
	ioBytes          int64
	ioCalls, ioPairs int
	// copies are snapshots and restored volumes.
	copies int
	// diskBytes is the size of a disk image.
	diskBytes int64
	// blockTogether are the volumes that many callers make of a block pool, blockExisting those that exist, in rising numbers.
	blockTogether int
	blockExisting []int
	// small tells that these are for a glance.
	small bool
}

// together is how many callers there are at once, but for one.
const together = 16

func full() amounts {
	return amounts{
		rounds: 3, livesAlone: 100, livesTogether: 320, pairs: 40, existing: []int{10, 1000, 10000}, formatted: []int{10, 1000},
		calls: 60, starts: 5, idle: 15 * time.Second, ioBytes: 256 * mib, ioCalls: 4000, ioPairs: 6, copies: 30, diskBytes: 8 * gib,
		blockTogether: 64, blockExisting: []int{1000},
	}
}

func quick() amounts {
	return amounts{
		rounds: 1, livesAlone: 10, livesTogether: 32, pairs: 4, existing: []int{10, 200}, formatted: []int{10, 30},
		calls: 10, starts: 2, idle: 2 * time.Second, ioBytes: 16 * mib, ioCalls: 200, ioPairs: 2, copies: 4, diskBytes: 1 * gib,
		blockTogether: 16, blockExisting: []int{30}, small: true,
	}
}

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// part is one thing that is measured.
type part struct {
	name string
	run  func(*bench, context.Context) error
}

func parts() []part {
	return []part{
		{"lives", (*bench).lives},
		{"copies", (*bench).copies},
		{"floors", (*bench).floors},
		{"io", (*bench).io},
		{"many", (*bench).many},
		{"formatted", (*bench).formatted},
		{"quota", (*bench).quota},
		{"block", (*bench).block},
	}
}

func partNames() []string {
	var names []string
	for _, p := range parts() {
		names = append(names, p.name)
	}
	return names
}

func (o options) wants(part string) bool { return len(o.only) == 0 || slices.Contains(o.only, part) }

// check says plainly what is missing.
func (o options) check() error {
	for _, name := range o.only {
		if !slices.Contains(partNames(), name) {
			return fmt.Errorf("there is no part %q; there are %s", name, strings.Join(partNames(), ", "))
		}
	}
	for _, name := range o.types {
		if _, ok := blockPools()[name]; !ok {
			return fmt.Errorf("there is no type %q of block pool; there are lvm, disk and partition", name)
		}
		if o.vm == "" {
			return fmt.Errorf("type %s is measured in the test bed: give --vm", name)
		}
	}
	if info, err := os.Stat(o.driver); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("there is no program %s; `make bench` builds the driver and then runs this", o.driver)
	}
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Errorf("this needs root, since it attaches loop devices and mounts file systems, and runs as user %d", uid)
	}
	return nil
}
