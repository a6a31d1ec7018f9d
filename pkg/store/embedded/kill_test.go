package embedded_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/store"
	"github.com/datastore-csi/datastore-csi/pkg/store/embedded"
)

// TestMain runs the test binary as another process of a test: what it does is said by ROLE. No goroutine
// may be left after the tests.
func TestMain(m *testing.M) {
	switch path := os.Getenv("STORE"); os.Getenv("ROLE") {
	case "":
		code := m.Run()
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	case "writer":
		writeForEver(path, os.Getenv("ROUND"))
	case "holder":
		hold(path)
	default:
		panic("no such role")
	}
}

// process starts the test binary in a role. It is killed after the test at the latest.
func process(t *testing.T, role, path, round string) (lines *bufio.Scanner, kill func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "ROLE="+role, "STORE="+path, "ROUND="+round)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // open as long as this process lives
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	kill = func() {
		once.Do(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // "signal: killed"
		})
	}
	t.Cleanup(kill)
	return bufio.NewScanner(out), kill
}

// writeForEver prints a line for each write that was acknowledged.
func writeForEver(path, round string) {
	db, err := embedded.Open(context.Background(), config(path))
	if err != nil {
		panic(err)
	}
	fmt.Println("opened")
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				writeOne(db.Store().Volumes, fmt.Sprintf("r%s-w%d-%d", round, w, i))
			}
		})
	}
	wg.Wait()
}

// writeOne takes a record a part of its way: each third is left created, updated and deleted.
func writeOne(volumes store.Table[v1alpha1.DatastoreVolume], name string) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	ctx := context.Background()
	made, err := volumes.Create(ctx, volume(name))
	must(err)
	fmt.Println("created", name, made.ResourceVersion)
	if strings.HasSuffix(name, "0") {
		return
	}
	made, err = store.ChangeStatus(ctx, volumes, name, func(v *v1alpha1.DatastoreVolume) error {
		v.Status.Worker.Location = "changed"
		return nil
	})
	must(err)
	fmt.Println("changed", name, made.ResourceVersion)
	if strings.HasSuffix(name, "1") {
		return
	}
	_, err = store.Change(ctx, volumes, name, func(v *v1alpha1.DatastoreVolume) error { v.Finalizers = nil; return nil })
	must(err)
	must(volumes.Delete(ctx, name, ""))
	fmt.Println("deleted", name, "0")
}

func TestWhatWasAcknowledgedSurvivesASIGKILL(t *testing.T) {
	path := newPath(t)
	acknowledged := map[string]string{} // the last thing that was said of each record
	for round := range 8 {
		lines, kill := process(t, "writer", path, fmt.Sprint(round))
		// Killed after so many lines; what it said before it died is read to the end.
		last := 1 + rand.IntN(300)
		for n := 0; lines.Scan(); n++ {
			if f := strings.Fields(lines.Text()); len(f) == 3 {
				acknowledged[f[1]] = f[0]
			}
			if n == last {
				go kill()
			}
		}
		kill()
		db := open(t, config(path))
		wantAcknowledged(t, db.Store().Volumes, acknowledged)
		closed(t, db)
	}
	if len(acknowledged) < 100 {
		t.Errorf("only %d records were written", len(acknowledged))
	}
}

func wantAcknowledged(t *testing.T, volumes store.Table[v1alpha1.DatastoreVolume], acknowledged map[string]string) {
	t.Helper()
	for name, what := range acknowledged {
		v, err := volumes.Get(t.Context(), name)
		// The next write of the record may have been committed and not yet acknowledged.
		switch {
		case what == "deleted" && !fault.Is(err, fault.NotFound):
			t.Errorf("%s was deleted, and is there again: %v", name, err)
		case what == "changed" && err == nil && v.Status.Worker.Location != "changed":
			t.Errorf("%s was changed, and is as before", name)
		case what == "changed" && err != nil && strings.HasSuffix(name, "1"),
			what == "created" && err != nil:
			t.Errorf("%s was %s: %v", name, what, err)
		}
	}
}

// hold opens the store and says so, until it is killed.
func hold(path string) {
	if _, err := embedded.Open(context.Background(), config(path)); err != nil {
		panic(err)
	}
	fmt.Println("held by", os.Getpid())
	_, _ = os.Stdin.Read(make([]byte, 1)) // never comes
}

func TestASecondProcessIsToldWhoHoldsTheFile(t *testing.T) {
	path := newPath(t)
	lines, kill := process(t, "holder", path, "")
	if !lines.Scan() {
		t.Fatal("the holder did not start")
	}
	pid := strings.Fields(lines.Text())[2]
	refused(t, config(path), fault.Busy, "another datastore-csi", "process "+pid)
	kill()
	closed(t, open(t, config(path)))
}

func TestASecondOpeningInOneProcessIsRefused(t *testing.T) {
	c := config(newPath(t))
	db := open(t, c)
	refused(t, c, fault.Busy, "another datastore-csi")
	closed(t, db)
	closed(t, open(t, c))
}
