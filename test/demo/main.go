// Demo shows the life of two volumes, step by step, with the driver's binary and nothing else:
//
//	go run ./test/demo --driver bin/datastore-csi
//
// It starts the driver with its embedded store and two directory datastores in a temporary folder, and
// does through the driver's socket what Kubernetes would do: create, attach, stage, publish, grow,
// delete; writes data, kills the driver in between, and verifies every byte. It ends with the machine as it
// was, also when it is interrupted. It needs root, since volumes are mounted for real.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

func main() {
	binary := flag.String("driver", "bin/datastore-csi", "the driver's `binary`")
	folder := flag.String("dir", "", "`folder` to work in; default: the system's for temporary files")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "demo: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := run(*binary, *folder); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run checks what the demo needs, plays it, and puts the machine back as it was, whatever happened.
func run(binary, parent string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	binary, parent, err := preflight(binary, parent)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp(parent, "datastore-csi-demo-")
	if err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	d, err := newDemo(binary, folder, newTable(os.Stdout))
	if err != nil {
		return errors.Join(err, os.RemoveAll(folder))
	}
	defer func() { _ = d.driver.Close() }() // the calls are over
	err = d.play(ctx)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	} else {
		err = fmt.Errorf("%w\n\nthe driver's log ends with:\n%s", err, d.driver.tail(30))
	}
	return errors.Join(err, d.cleanUp())
}
