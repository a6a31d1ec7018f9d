package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// stormVariable has the storm make another number of claims.
	stormVariable = "TEST_E2E_CLAIMS"
	stormClaims   = 150
	stormWorkers  = 6
	// betweenKills of all of the driver, in which its sidecars find a leader again.
	betweenKills = 25 * time.Second
	// sweep is when the controller has found the volumes that the provisioner forgot when it was killed: with the age that they must have.
	sweep = 6 * time.Minute
)

// Claims come and go at random while the driver is killed again and again. In the end what lies on the datastores is what the
// PersistentVolumes say.
func TestAStormOfClaims(t *testing.T) {
	count := stormClaims
	if given := os.Getenv(stormVariable); given != "" {
		var err error
		if count, err = strconv.Atoi(given); err != nil {
			t.Fatal(err)
		}
	}
	ctx, end := context.WithCancel(t.Context())
	killed := make(chan error, 1)
	go func() { killed <- killAgainAndAgain(ctx) }()
	stays := make([]bool, count)
	workers, storm := errgroup.WithContext(t.Context())
	workers.SetLimit(stormWorkers)
	for i := range count {
		workers.Go(func() (err error) {
			stays[i], err = comeAndGo(storm, i)
			return err
		})
	}
	err := workers.Wait()
	end()
	if err := <-killed; err != nil {
		t.Error(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	rolledOut(t)
	var want []string
	for i, stay := range stays {
		if stay {
			want = append(want, stormName(i))
		}
	}
	t.Logf("%d of %d claims stay", len(want), count)
	within(t, sweep, "what lies on the datastores is what the claims have", func() error { return agree(t.Context(), want) })
	do(t, "delete", "pvc", "-l", "storm=yes", "--timeout="+patience.String())
	nothingLeft(t)
}

func stormName(i int) string { return "storm-" + strconv.Itoa(i) }

// killAgainAndAgain kills the driver until ctx ends.
func killAgainAndAgain(ctx context.Context) error {
	ticker := time.NewTicker(betweenKills)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := kill(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
}

// comeAndGo makes a claim, and deletes it at some time or leaves it.
func comeAndGo(ctx context.Context, i int) (stays bool, err error) {
	name := stormName(i)
	c := claim(name, fmt.Sprintf("%dMi", 20+rand.IntN(40))).with("storageClassName", "small")
	c["metadata"].(object)["labels"] = object{"storm": "yes"}
	text, err := json.Marshal(c)
	if err != nil {
		return false, err
	}
	if _, err := kubectl(ctx, string(text), "apply", "-f", "-"); err != nil {
		return false, err
	}
	fate := rand.IntN(3)
	if fate > 0 { // else it goes while it is being made
		if _, err := kubectl(ctx, "", "wait", "--for=jsonpath={.status.phase}=Bound", "--timeout="+patience.String(), "pvc/"+name); err != nil {
			return false, err
		}
	}
	if fate == 2 {
		return true, nil
	}
	_, err = kubectl(ctx, "", "delete", "pvc/"+name, "--timeout="+patience.String())
	return false, err
}

// agree compares the claims' volumes with the PersistentVolumes, the records, and what lies on the nodes.
func agree(ctx context.Context, claims []string) error {
	bound, err := kubectl(ctx, "", "get", "pvc", "-l", "storm=yes", "-o", "jsonpath={range .items[*]}{.metadata.name}={.spec.volumeName}{\"\\n\"}{end}")
	if err != nil {
		return err
	}
	var names, want []string
	for _, line := range strings.Fields(bound) {
		name, volume, _ := strings.Cut(line, "=")
		names, want = append(names, name), append(want, volume)
	}
	if !same(names, claims) {
		return fmt.Errorf("claims %q, want %q", names, claims)
	}
	volumes, err := kubectl(ctx, "", "get", "pv", "-o", "jsonpath={.items[*].spec.csi.volumeHandle}")
	if err != nil {
		return err
	}
	records, err := kubectl(ctx, "", "get", "datastorevolumes", "-o", "jsonpath={.items[*].metadata.name}")
	if err != nil {
		return err
	}
	var lies []string
	for _, node := range nodes {
		// The names end in digits of the record's UID; whatever waits for its end counts too.
		out, err := in(ctx, node, "sh", "-ec", "cd "+pool+"; for d in volumes .datastore-csi/tmp .datastore-csi/trash; do ls $d; done")
		if err != nil {
			return err
		}
		for _, name := range strings.Fields(out) {
			lies = append(lies, name[:strings.LastIndex(name, "-")])
		}
	}
	for what, have := range map[string][]string{
		"PersistentVolumes": strings.Fields(volumes), "records": strings.Fields(records), "volumes on the nodes": lies,
	} {
		if !same(have, want) {
			return fmt.Errorf("%s %q, claims have %q", what, have, want)
		}
	}
	return nil
}

// same tells whether two lists hold the same, in any order.
func same(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
