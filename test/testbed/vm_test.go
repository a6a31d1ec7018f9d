package testbed_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

type result struct {
	code           int
	stdout, stderr string
}

// vm runs the script as go test's -exec does: in the folder of a package.
func vm(t *testing.T, dir string, env []string, args ...string) result {
	t.Helper()
	script, err := filepath.Abs("vm")
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), script, args...)
	var stdout, stderr bytes.Buffer
	command.Dir, command.Stdout, command.Stderr = dir, &stdout, &stderr
	command.Env = append(os.Environ(), env...)
	var exit *exec.ExitError
	if err := command.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{command.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func TestExitCodeAndOutputPassThrough(t *testing.T) {
	good := vm(t, t.TempDir(), nil, "/bin/sh", "-c", "echo out; echo err >&2")
	if want := (result{0, "out\n", "err\n"}); good != want {
		t.Errorf("got %+v, want %+v", good, want)
	}
	bad := vm(t, t.TempDir(), nil, "/bin/sh", "-c", "echo out; echo err >&2; echo remember me >/dev/kmsg; exit 3")
	if bad.code != 3 || bad.stdout != "out\n" || !strings.HasPrefix(bad.stderr, "err\n") {
		t.Errorf("got %+v, want exit code 3", bad)
	}
	if !strings.Contains(bad.stderr, "] remember me") || strings.Contains(bad.stderr, "Linux version") {
		t.Errorf("want the kernel's messages since the machine was up, got:\n%s", bad.stderr)
	}
	killed := vm(t, t.TempDir(), nil, "/bin/sh", "-c", "kill -KILL $$")
	if killed.code != 128+9 {
		t.Errorf("exit code of a command that was killed: %d, want 137", killed.code)
	}
}

func TestTimeLimitKillsTheMachine(t *testing.T) {
	start := time.Now()
	got := vm(t, t.TempDir(), nil, "-name", "limited", "-time", "4s", "/bin/sleep", "1000")
	if got.code != 124 || !strings.Contains(got.stderr, "time limit reached, machine killed after 4s") {
		t.Errorf("got %+v, want exit code 124 and the reason", got)
	}
	if took := time.Since(start); took > 5*time.Minute {
		t.Errorf("it took %s", took)
	}
	if left := processes(t, "limited"); len(left) > 0 {
		t.Errorf("processes left: %q", left)
	}
}

func TestEnvironmentGivesOptionsAndIsPassedOn(t *testing.T) {
	env := []string{"VM_NAME=by-env", "VM_DISK=64M,128M", "VM_ENV=SECOND", "DATASTORE_CSI_X=1", "TEST_Y=2", "SECOND=3", "THIRD=4"}
	got := vm(t, t.TempDir(), env, "/bin/sh", "-c",
		`hostname; blockdev --getsize64 /dev/ubda /dev/ubdb; echo $DATASTORE_CSI_X $TEST_Y $SECOND $THIRD`)
	if want := "by-env\n67108864\n134217728\n1 2 3\n"; got.stdout != want {
		t.Errorf("got %+v, want %q", got, want)
	}
}

func TestDiskFileLivesOn(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "a.img")
	if got := vm(t, t.TempDir(), nil, "-disk", disk+":64M", "/bin/sh", "-c", "echo kept >/dev/ubda"); got.code != 0 {
		t.Fatalf("got %+v", got)
	}
	content, err := os.ReadFile(disk)
	if err != nil || len(content) != 64<<20 || !bytes.HasPrefix(content, []byte("kept\n")) {
		t.Errorf("the file has %d bytes (%v) and begins with %q", len(content), err, content[:min(5, len(content))])
	}
}

func TestTwoMachinesAtOnce(t *testing.T) {
	var results [2]result
	var machines sync.WaitGroup
	for i := range results {
		machines.Go(func() {
			results[i] = vm(t, t.TempDir(), nil, "/bin/sh", "-c", "cat /etc/machine-id; echo x >/dev/ubda")
		})
	}
	machines.Wait()
	id := regexp.MustCompile(`^[0-9a-f]{32}\n$`)
	for _, r := range results {
		if r.code != 0 || !id.MatchString(r.stdout) {
			t.Errorf("got %+v, want a machine-id", r)
		}
	}
	if results[0].stdout == results[1].stdout {
		t.Errorf("both have the machine-id %s", results[0].stdout)
	}
}

func TestGoTestRunsAPackageOfAnotherModuleInAMachine(t *testing.T) {
	module := t.TempDir() // below /tmp, which a machine has for itself
	for name, content := range map[string]string{
		"go.mod":           "module example.com/m\n\ngo 1.26\n",
		"testdata/text":    "found",
		"sub/sub_test.go":  "package sub\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestIt(t *testing.T) {\n" + "\tname, _ := os.Hostname()\n\ttext, err := os.ReadFile(\"../testdata/text\")\n\tt.Log(name, string(text), err)\n}\n",
		"sub/nothing.go":   "package sub\n",
		"broken/b_test.go": "package broken\n\nimport \"testing\"\n\nfunc TestIt(t *testing.T) { t.Error(\"on purpose\") }\n",
	} {
		path := filepath.Join(module, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script, err := filepath.Abs("vm")
	if err != nil {
		t.Fatal(err)
	}
	goTest := func(name, pattern string) (string, error) {
		command := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-coverprofile=cover.out",
			"-exec", script+" -name "+name+" -disk none", pattern)
		command.Dir = module
		out, err := command.CombinedOutput()
		return string(out), err
	}
	if out, err := goTest("inside", "./sub"); err != nil || !strings.Contains(out, "inside found <nil>") {
		t.Errorf("%v:\n%s", err, out)
	}
	if cover, err := os.ReadFile(filepath.Join(module, "cover.out")); err != nil || !bytes.HasPrefix(cover, []byte("mode: ")) {
		t.Errorf("coverage: %q, %v", cover, err)
	}
	if out, err := goTest("inside", "./broken"); err == nil || !strings.Contains(out, "on purpose") {
		t.Errorf("a test that fails gave %v:\n%s", err, out)
	}
}
