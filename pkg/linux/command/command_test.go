package command_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

func TestRunReturnsWhatTheToolWrote(t *testing.T) {
	var seen observed
	run := command.New(seen.config())
	out, err := run.Run(t.Context(), command.Cmd{
		Tool: tool(t, `echo "$# $2"; echo noise >&2; cat`), Args: []string{"a", "b  c; $(id)"}, Stdin: []byte("input"),
	})
	if err != nil || string(out) != "2 b  c; $(id)\ninput" {
		t.Errorf("got %q, %v", out, err)
	}
	if !slices.Equal(seen.results, []string{"tool ok"}) {
		t.Errorf("observed %q", seen.results)
	}
}

func TestToolsAreFoundInThePathOnly(t *testing.T) {
	t.Setenv("PATH", "/nowhere")
	out, err := command.New(command.Config{}).Run(t.Context(), command.Cmd{Tool: "blkid", Args: []string{"-V"}})
	if err != nil {
		t.Errorf("a tool of /sbin is not found: %q, %v", out, err)
	}
	own := tool(t, "echo mine")
	dir := filepath.Dir(own)
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "text"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	run := command.New(command.Config{Path: "/nowhere:" + dir})
	if out, err := run.Run(t.Context(), command.Cmd{Tool: "tool"}); err != nil || string(out) != "mine\n" {
		t.Errorf("got %q, %v", out, err)
	}
	for _, name := range []string{"blkid", "sub", "text", dir + "/none"} {
		var seen observed
		c := seen.config()
		c.Path = dir
		_, err := command.New(c).Run(t.Context(), command.Cmd{Tool: name})
		if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "install") {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.Equal(seen.results, []string{filepath.Base(name) + " missing"}) {
			t.Errorf("observed %q", seen.results)
		}
	}
}

func TestEnvironmentIsFixedAndNotInherited(t *testing.T) {
	t.Setenv("CANARY", "inherited")
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	out, err := command.New(command.Config{}).Run(t.Context(), command.Cmd{Tool: "env", Env: []string{"EXTRA=a=b"}})
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(out))
	want := []string{"PATH=" + command.DefaultPath, "LC_ALL=C", "HOME=/", "EXTRA=a=b"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNoStdinIsAnEmptyInput(t *testing.T) {
	if out, err := command.New(command.Config{}).Run(t.Context(), command.Cmd{Tool: "cat"}); err != nil || len(out) > 0 {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestAToolThatLeavesItsInputUnreadSucceeds(t *testing.T) {
	input := make([]byte, 1<<20)
	if _, err := command.New(command.Config{}).Run(t.Context(), command.Cmd{Tool: "true", Stdin: input}); err != nil {
		t.Error(err)
	}
}

func TestFailureTellsCommandCodeAndMessage(t *testing.T) {
	var seen observed
	run := command.New(seen.config())
	path := tool(t, `echo out; printf 'first\n\033[31msecond\0 \377\n' >&2; exit 7`)
	out, err := run.Run(t.Context(), command.Cmd{Tool: path, Args: []string{"-x", "y"}})
	if want := path + " -x y: exit status 7: first [31msecond \uFFFD"; !fault.Is(err, fault.Internal) || err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if code, ok := command.ExitCode(err); !ok || code != 7 || string(out) != "out\n" {
		t.Errorf("got %d, %v, %q", code, ok, out)
	}
	_, err = run.Run(t.Context(), command.Cmd{Tool: path, OKCodes: []int{3, 7}})
	if code, ok := command.ExitCode(err); !ok || code != 7 {
		t.Errorf("an expected code must be told all the same: %v", err)
	}
	_, err = run.Run(t.Context(), command.Cmd{Tool: tool(t, "kill -TERM $$")})
	if code, ok := command.ExitCode(err); ok || !strings.Contains(err.Error(), "signal: terminated") {
		t.Errorf("a signal is no exit code: %d, %v", code, err)
	}
	if want := []string{"tool failed", "tool ok", "tool failed"}; !slices.Equal(seen.results, want) {
		t.Errorf("observed %q, want %q", seen.results, want)
	}
	if _, ok := command.ExitCode(fault.New(fault.Internal, "x")); ok {
		t.Error("an error of no tool has no exit code")
	}
}

func TestCombinedShowsWhatWasSaidOnEitherStream(t *testing.T) {
	path := tool(t, `echo one; echo two >&2; exit $1`)
	run := command.New(command.Config{})
	out, err := run.Run(t.Context(), command.Cmd{Tool: path, Args: []string{"0"}, Combined: true})
	if err != nil || string(out) != "one\ntwo\n" {
		t.Errorf("got %q, %v", out, err)
	}
	_, err = run.Run(t.Context(), command.Cmd{Tool: path, Args: []string{"4"}, Combined: true})
	if err == nil || !strings.HasSuffix(err.Error(), "one two") {
		t.Errorf("got %v", err)
	}
}

func TestWhatCantBePassedIsRefused(t *testing.T) {
	for name, c := range map[string]command.Cmd{
		"no tool":                      {},
		"NUL in the tool":              {Tool: "a\x00b"},
		"NUL in an argument":           {Tool: "true", Args: []string{"ok", "a\x00b"}},
		"NUL in the environment":       {Tool: "true", Env: []string{"A=a\x00b"}},
		"environment without a value":  {Tool: "true", Env: []string{"A"}},
		"environment without its name": {Tool: "true", Env: []string{"=b"}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := command.New(command.Config{}).Run(t.Context(), c); !fault.Is(err, fault.Invalid) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAFileThatIsNoProgramCantBeStarted(t *testing.T) {
	path := tool(t, "")
	if err := os.WriteFile(path, []byte("\x7fELF nonsense"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := command.New(command.Config{}).Run(t.Context(), command.Cmd{Tool: path})
	if !fault.Is(err, fault.Internal) || !strings.Contains(err.Error(), "can't be started") {
		t.Errorf("got %v", err)
	}
}

func TestARunThatChangesTheWorldIsOneStep(t *testing.T) {
	var points []string
	ctx := step.WithHook(t.Context(), func(_, what string) { points = append(points, what) })
	marker := filepath.Join(t.TempDir(), "marker")
	run := command.New(command.Config{})
	for _, c := range []command.Cmd{
		{Tool: "true"},
		{Tool: "touch", Args: []string{marker}, Changes: "touch the marker"},
		{Tool: "no-such-tool", Changes: "nothing: the tool is missing"},
	} {
		if _, err := run.Run(ctx, c); (err != nil) != (c.Tool == "no-such-tool") {
			t.Error(err)
		}
	}
	if _, err := os.Stat(marker); err != nil || !slices.Equal(points, []string{"touch the marker"}) {
		t.Errorf("points %q, %v", points, err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := run.Run(ended, command.Cmd{Tool: "true", Changes: "too late"}); !fault.Is(err, fault.Unavailable) || len(points) > 1 {
		t.Errorf("points %q, %v", points, err)
	}
}

func TestFactIsAskedOnceUntilTheToolChanges(t *testing.T) {
	var seen observed
	run := command.New(seen.config())
	path := tool(t, "echo 1.0 $1")
	ask := func(arg, want string) {
		t.Helper()
		out, err := run.Fact(t.Context(), command.Cmd{Tool: path, Args: []string{arg}})
		if err != nil || string(out) != want+"\n" {
			t.Errorf("got %q, %v", out, err)
		}
		clear(out) // the caller's copy must be its own
	}
	ask("-V", "1.0 -V")
	ask("-V", "1.0 -V")
	ask("-O", "1.0 -O")
	if len(seen.results) != 2 {
		t.Errorf("observed %q", seen.results)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho 2.00 $1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ask("-V", "2.00 -V")
	if err := os.Chtimes(path, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	ask("-V", "2.00 -V")
	if len(seen.results) != 4 {
		t.Errorf("observed %q", seen.results)
	}
	if _, err := run.Fact(t.Context(), command.Cmd{Tool: "no-such-tool"}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	failing := tool(t, "exit 3")
	for range 2 {
		if _, err := run.Fact(t.Context(), command.Cmd{Tool: failing}); err == nil {
			t.Error("a failure was remembered as an answer")
		}
	}
}

func TestOutputIsBoundedAndSaysSo(t *testing.T) {
	run := command.New(command.Config{})
	out, err := run.Run(t.Context(), command.Cmd{Tool: "seq", Args: []string{"1", "100000"}, MaxOutput: 10})
	if !errors.Is(err, command.ErrTruncated) || string(out) != "1\n2\n3\n4\n5\n" {
		t.Errorf("got %q, %v", out, err)
	}
	out, err = run.Run(t.Context(), command.Cmd{Tool: "printf", Args: []string{"0123456789"}, MaxOutput: 10})
	if err != nil || len(out) != 10 {
		t.Errorf("output that just fits: %q, %v", out, err)
	}
	out, err = run.Run(t.Context(), command.Cmd{Tool: "head", Args: []string{"-c", "3000000", "/dev/zero"}})
	if !errors.Is(err, command.ErrTruncated) || len(out) != command.DefaultMaxOutput {
		t.Errorf("got %d bytes, %v", len(out), err)
	}
	_, err = run.Run(t.Context(), command.Cmd{Tool: tool(t, "seq 1 100000 >&2; exit 1")})
	if err == nil || len(err.Error()) > 3000 || !strings.Contains(err.Error(), "1 2 3 4") || !strings.HasSuffix(err.Error(), "100000") {
		t.Errorf("got %d bytes of error: %v", len(err.Error()), err)
	}
}
