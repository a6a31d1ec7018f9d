package testbed

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFolderInAnotherIsNotSharedTwice(t *testing.T) {
	parent, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"a/b/c", "ab"} {
		if err := os.MkdirAll(filepath.Join(parent, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(parent, "link")
	if err := os.Symlink("a/b", link); err != nil {
		t.Fatal(err)
	}
	got, err := outermost([]string{parent + "/a/b/c", parent + "/ab", parent + "/a", parent + "/a", link})
	if want := []string{parent + "/a", parent + "/ab"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestFoldersThatAMachineHasForItselfAreNotShared(t *testing.T) {
	for _, folder := range []string{"/", "/tmp", "/etc", "/proc", "relative", "/does/not/exist"} {
		if got, err := outermost([]string{folder}); err == nil || !strings.Contains(err.Error(), folder) {
			t.Errorf("%s: got %q, %v, want an error that names it", folder, got, err)
		}
	}
}

func TestFoldersOfDeadProcessesAreRemoved(t *testing.T) {
	parent := t.TempDir()
	old := time.Now().Add(-time.Hour)
	make := func() (string, *os.File) {
		folder, lock, err := makeFolder(parent)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(folder, old, old); err != nil {
			t.Fatal(err)
		}
		return folder, lock
	}
	dead, lock := make()
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	young, lock := make()
	if err := errors.Join(lock.Close(), os.Chtimes(young, time.Time{}, time.Now())); err != nil {
		t.Fatal(err)
	}
	alive, lock := make()
	defer lock.Close()
	_, last := make()
	defer last.Close()
	for folder, want := range map[string]bool{dead: false, young: true, alive: true} {
		if _, err := os.Stat(folder); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %t", folder, err, want)
		}
	}
}

func TestEachMachineHasACPUWhileThereAreAny(t *testing.T) {
	folder := t.TempDir()
	taken := map[int]bool{}
	for {
		cpu, lock, err := claimCPU(folder)
		if err != nil {
			t.Fatal(err)
		}
		if lock == nil {
			break // from here on they are shared
		}
		defer lock.Close()
		if taken[cpu] {
			t.Fatalf("CPU %d was given twice", cpu)
		}
		taken[cpu] = true
	}
	if len(taken) == 0 {
		t.Error("no CPU was free")
	}
}

func TestKernelFaultsAreFound(t *testing.T) {
	for line, fault := range map[string]bool{
		"[    1.1] BUG: sleeping function called from invalid context":     true,
		"[    1.1] kernel BUG at fs/xfs/xfs_message.c:102!":                true,
		"[    1.1] Kernel panic - not syncing: Attempted to kill init!":    true,
		"[    1.1] INFO: task touch:12 blocked for more than 120 seconds.": true,
		"[    1.1] Oops: 0002 [#1] PREEMPT":                                true,
		"[    1.1] UML ran out of memory on the host side! This can":       true,
		"[    1.1] XFS (ubda): Mounting V5 Filesystem":                     false,
		"[    1.1] Buffer I/O error on dev dm-0, logical block 0":          false,
		"[    1.1] EXT4-fs (loop0): DEBUG: mounted":                        false,
	} {
		if found := kernelFaults("[    1.0] before\n" + line + "\nafter\n"); (len(found) == 1) != fault {
			t.Errorf("%q: found %q, want a fault: %t", line, found, fault)
		}
	}
}

func TestLimitOnMappingsIsOnlyEverRaised(t *testing.T) {
	sysctl := filepath.Join(t.TempDir(), "max_map_count")
	for before, after := range map[string]string{"65530\n": "1048576", "1048576\n": "1048576\n", "2000000\n": "2000000\n"} {
		if err := os.WriteFile(sysctl, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		err := allowMaps(sysctl)
		if got, _ := os.ReadFile(sysctl); err != nil || string(got) != after {
			t.Errorf("%q became %q, %v, want %q", before, got, err, after)
		}
	}
}

func TestOutputKeepsTheEndAndMirrorsAll(t *testing.T) {
	var mirror bytes.Buffer
	output := newOutput(&mirror)
	text := strings.Repeat("0123456789\n", outputLimit/10) + "the end\n"
	if err := output.readAll(strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if got := output.String(); len(got) != outputLimit || !strings.HasSuffix(text, got) {
		t.Errorf("kept %d bytes, want the last %d", len(got), outputLimit)
	}
	if mirror.String() != text {
		t.Error("the mirror has not got all")
	}
	if line, err := output.waitLine(t.Context(), "end"); line != "the end" || err != nil {
		t.Errorf("got the line %q, %v", line, err)
	}
	if _, err := output.waitLine(t.Context(), "end"); !errors.Is(err, errEnded) {
		t.Errorf("behind the last line: %v, want that it has ended", err)
	}
}

func TestWaitLineWaitsForTheWholeLine(t *testing.T) {
	reader, writer := io.Pipe()
	output := newOutput(nil)
	read := make(chan error, 1)
	go func() { read <- output.readAll(reader) }()
	found := make(chan string, 1)
	go func() {
		line, err := output.waitLine(t.Context(), "READY")
		found <- line + errorText(err)
	}()
	for _, part := range []string{"not yet\nRE", "ADY at", " 5\n"} {
		if _, err := io.WriteString(writer, part); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-found; got != "READY at 5" {
		t.Errorf("got %q", got)
	}
	if err := errors.Join(writer.Close(), <-read); err != nil {
		t.Error(err)
	}
	canceled, cancel := context.WithCancelCause(t.Context())
	cancel(io.ErrNoProgress)
	if _, err := newOutput(nil).waitLine(canceled, "x"); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
