package sanity_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// The whole of csi-sanity passes on every kind of storage, whichever way the driver runs and whatever a
// volume is.
func TestCSISanity(t *testing.T) {
	seed := ginkgo.GinkgoRandomSeed()
	for i, storage := range rows.All() {
		for _, way := range []struct {
			name      string
			inProcess bool
			access    string
			trees     bool
		}{
			{"in process, mounted", true, "mount", false},
			{"in process, block", true, "block", false},
			{"binary, mounted", false, "mount", false},
			{"binary, block", false, "block", false},
			{"binary, sub-directories", false, "mount", true},
		} {
			if way.trees && !storage.Can().Subdirectories || !rows.Today(way.name, i) {
				continue
			}
			order := seed
			seed++
			t.Run(storage.Name()+", "+way.name, func(t *testing.T) {
				t.Parallel()
				testSanity(t, storage, way.inProcess, way.trees, suite{Access: way.access, Seed: order})
			})
		}
	}
}

// testSanity runs the suite on two datastores of a kind, and then makes sure that nothing of it is left.
func testSanity(t *testing.T, storage rows.Row, inThisProcess, trees bool, s suite) {
	one, two := storage.Setup(t), storage.Setup(t)
	if trees {
		s.Parameters = map[string]string{"format": "subdirectory", "quota": "none"}
	}
	if trees && !one.Can().CopiesTrees || !one.Can().Clones {
		s.Without = copySpecs
	} else if !one.Can().Snapshots {
		s.Without = snapshotSpecs
	}
	d := harness.NewDriver(t, harness.Options{
		Datastores: []harness.Datastore{one.Datastore("one"), two.Datastore("two")}, MaxVolumesPerNode: attachLimit,
	})
	s.Socket, s.Report = d.Socket, filepath.Join(d.Dir, "report.json")
	s.Targets, s.Staging = filepath.Join(d.Dir, "targets"), filepath.Join(d.Dir, "staging")

	// The first start makes the pools' markers and the driver's own files.
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if inThisProcess {
		if err := d.Stop(); err != nil {
			t.Fatal(err)
		}
		s.InProcess = &inProcess{Datastores: d.File, StateDir: d.StateDir, MountDir: d.MountDir, Host: d.Host, ClusterID: d.ClusterID}
	}
	camera := harness.Camera{
		Under: []string{d.Dir}, Files: []string{d.StageRecords(), s.Targets, s.Staging},
	}
	for _, c := range []harness.Camera{one.Camera(), two.Camera()} {
		camera.Under, camera.Files = append(camera.Under, c.Under...), append(camera.Files, c.Files...)
	}
	before, err := camera.Take()
	if err != nil {
		t.Fatal(err)
	}
	runInChild(t, s)
	if inThisProcess { // what it had not yet freed when it ended, the next one does
		if err := d.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := camera.Settles(t.Context(), before, time.Minute); err != nil {
		t.Errorf("after the last spec: %v", err)
	}
	checkReport(t, s)
}

// runInChild runs the suite in a process of its own.
func runInChild(t *testing.T, s suite) {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("order by seed %d; for the same order in all rows: go test ./test/sanity/ -ginkgo.seed=%d",
		s.Seed, ginkgo.GinkgoRandomSeed())
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), suiteVariable+"="+string(text))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("csi-sanity: %v\n%s", err, out)
	}
}

// checkReport compares what passed, failed and was skipped with what should have.
func checkReport(t *testing.T, s suite) {
	t.Helper()
	text, err := os.ReadFile(s.Report)
	if err != nil {
		t.Fatal(err)
	}
	var reports []types.Report
	if err := json.Unmarshal(text, &reports); err != nil {
		t.Fatalf("read csi-sanity's report: %v", err)
	}
	skipped := map[string]string{}
	var passed, failed int
	for _, report := range reports {
		for _, spec := range report.SpecReports.WithLeafNodeType(types.NodeTypeIt) {
			switch {
			case spec.State.Is(types.SpecStatePassed):
				passed++
			case spec.State.Is(types.SpecStateSkipped | types.SpecStatePending):
				skipped[spec.FullText()] = spec.FailureMessage()
			default:
				failed++
				t.Errorf("%s: %s: %s", spec.State, spec.FullText(), spec.FailureMessage())
			}
		}
	}
	if s.Without != "" {
		without := regexp.MustCompile(s.Without)
		maps.DeleteFunc(skipped, func(name, why string) bool { return why == "" && without.MatchString(name) })
	}
	checkSkipped(t, skipped)
	t.Logf("%d passed, %d failed, %d skipped as listed in skipped_test.go", passed, failed, len(skipped))
	if passed == 0 {
		t.Error("no spec passed: the suite did not run")
	}
}

// checkSkipped compares the specs that were skipped, with what csi-sanity said of them, with the list.
func checkSkipped(t *testing.T, skipped map[string]string) {
	t.Helper()
	expected := expectedSkips()
	for _, name := range slices.Sorted(maps.Keys(skipped)) {
		if expected[name] == "" {
			t.Errorf("skipped (%s), and not in the list: %s", skipped[name], name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(expected)) {
		if _, ok := skipped[name]; !ok {
			t.Errorf("in the list of skipped specs, and not skipped; take it out: %s", name)
		}
	}
}
