// Package lint_test proves .golangci.yml: it gives the linter a scratch module with one small bad file a
// rule, and sees each refused for the right reason and each good one pass.
package lint_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const module = "github.com/datastore-csi/datastore-csi"

// A sample is one file given to the linter. Every sample has a folder of its own below dir, so that
// none disturbs another.
type sample struct {
	name string
	dir  string // which floor it stands on
	file string // x.go where empty
	src  string // without the package clause
	want string // "linter: part of the message"; empty where the linter has nothing to say
}

// finding is the part of golangci-lint's JSON that is looked at.
type finding struct {
	FromLinter string
	Text       string
	Pos        struct{ Filename string }
}

func TestRulesOfTheHouse(t *testing.T) {
	samples := append(floorSamples(), ruleSamples()...)
	root := scratchModule(t)
	folders := map[string]int{}
	for i, s := range samples {
		folder := filepath.Join(s.dir, fmt.Sprintf("sample%03d", i))
		folders[folder] = i
		file := s.file
		if file == "" {
			file = "x.go"
		}
		src := fmt.Sprintf("// Package sample%03d is a sample.\npackage sample%03d\n\n%s", i, i, s.src)
		write(t, filepath.Join(root, folder, file), src)
	}
	found := make([][]finding, len(samples))
	for _, f := range lint(t, root) {
		i, ok := folders[filepath.Dir(f.Pos.Filename)]
		if !ok {
			t.Errorf("a finding outside of all samples: %+v", f)
			continue
		}
		found[i] = append(found[i], f)
	}
	for i, s := range samples {
		t.Run(s.name, func(t *testing.T) { s.check(t, found[i]) })
	}
}

// check wants the one thing that the sample is about, and nothing else: a sample that is wrong in two
// ways proves neither.
func (s sample) check(t *testing.T, found []finding) {
	linter, text, _ := strings.Cut(s.want, ": ")
	bitten := false
	for _, f := range found {
		if s.want != "" && f.FromLinter == linter && strings.Contains(f.Text, text) {
			bitten = true
			continue
		}
		t.Errorf("unwanted finding: %s: %s", f.FromLinter, f.Text)
	}
	if s.want != "" && !bitten {
		t.Errorf("not refused by %q:\n%s", s.want, s.src)
	}
}

// scratchModule makes a module of this module's name, requirements and rules, in which each floor is one
// package with one constant.
func scratchModule(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum", ".golangci.yml"} {
		data, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, name), string(data))
	}
	for _, dir := range packages {
		name := filepath.Base(dir)
		write(t, filepath.Join(root, dir, "stub.go"),
			fmt.Sprintf("// Package %s is a stub.\npackage %s\n\n// Name is used by who imports it.\nconst Name = %q\n", name, name, name))
	}
	return root
}

// lint runs the linter over a module and returns all that it found there.
func lint(t *testing.T, root string) []finding {
	t.Helper()
	report := filepath.Join(t.TempDir(), "report.json")
	cmd := exec.CommandContext(t.Context(), golangciLint(t), "run", "--output.json.path="+report, "--show-stats=false", "./...")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err == nil || !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("%s: want exit code 1 (findings), got %v:\n%s", cmd, err, out)
	}
	data, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var parsed struct{ Issues []finding }
	if err := json.Unmarshal(data, &parsed); err != nil {
		t.Fatalf("%s: %v", report, err)
	}
	for _, f := range parsed.Issues {
		if f.FromLinter == "typecheck" {
			t.Fatalf("%s does not compile, so that nothing was checked: %s", f.Pos.Filename, f.Text)
		}
	}
	return parsed.Issues
}

// golangciLint is the linter that make built (GOLANGCI_LINT), or one that is built now.
func golangciLint(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("GOLANGCI_LINT"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "golangci-lint")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "github.com/golangci/golangci-lint/v2/cmd/golangci-lint")
	build.Dir = filepath.Join("..", "tools")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v:\n%s", build, err, out)
	}
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The linter's rows name the floors one by one: a folder of pkg that none names must be added there and
// in the table of this test.
func TestEveryFolderOfPkgHasARow(t *testing.T) {
	config, err := os.ReadFile(filepath.Join("..", "..", ".golangci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join("..", "..", "pkg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		row := regexp.MustCompile(`\$\{base-path\}/pkg/(\{[a-z,]*\b)?` + e.Name() + `\b`)
		if _, tested := floors["pkg/"+e.Name()]; !tested && e.Name() != "api" && e.Name() != "linux" || !row.Match(config) {
			t.Errorf("pkg/%s has no row in .golangci.yml, or none in the table of hack/lint", e.Name())
		}
	}
}
