package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	o := options{out: os.Stdout, amounts: full()}
	flag.StringVar(&o.driver, "driver", "bin/datastore-csi", "the driver's `binary`")
	flag.StringVar(&o.folder, "dir", "", "`folder` to work in, on a disk; default: the system's for temporary files")
	flag.StringVar(&o.json, "json", "", "`file` for the figures as JSON; default: none")
	flag.StringVar(&o.vm, "vm", "", "`program` that runs another in the test bed's kernel (test/testbed/vm); without it quotas are not measured")
	only := flag.String("only", "", "`parts` to measure, separated by commas: "+strings.Join(partNames(), ", ")+"; default: all")
	small := flag.Bool("quick", false, "a minute's worth of everything, to see that it works")
	inside := flag.Int("quota", 0, "measure so many `turns` of quotas and nothing else, on a disk of the test bed; used inside of it")
	types := flag.String("type", "", "`types` of block pools to measure, in the test bed, and nothing else: lvm, disk, partition; separated by commas")
	insideBlock := flag.String("block", "", "measure a `type` of block pool and nothing else, on a disk of the test bed; used inside of it")
	flag.Parse()
	if *small {
		o.amounts = quick()
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	if *types != "" {
		o.types, o.only = strings.Split(*types, ","), []string{"block"}
	}
	err := o.check()
	if flag.NArg() > 0 {
		err = errors.Join(err, fmt.Errorf("unexpected argument %q", flag.Arg(0)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if *inside > 0 {
		o.amounts.pairs = *inside
	}
	if err := run(o, *inside > 0, *insideBlock); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures in a folder of its own, and puts the machine back as it was, whatever happened.
func run(o options, quota bool, block string) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	switch {
	case quota:
		return quotaInside(ctx, o)
	case block != "":
		return blockInside(ctx, o, block)
	}
	if o.driver, err = filepath.Abs(o.driver); err != nil {
		return err
	}
	parent, err := filepath.EvalSymlinks(orDefault(o.folder, os.TempDir()))
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp(parent, "dcsi-bench-")
	if err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	b := newBench(o, folder)
	err = b.measure(ctx)
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	return errors.Join(err, b.cleanUp())
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}
