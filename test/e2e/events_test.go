package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// events gives type, reason and message of an object's events, one a line.
func events(t *testing.T, kind, name string) string {
	t.Helper()
	return do(t, "get", "events", "-n", "default", "--field-selector=involvedObject.kind="+kind+",involvedObject.name="+name,
		"-o", `jsonpath={range .items[*]}{.type} {.reason} {.message}{"\n"}{end}`)
}

func says(t *testing.T, kind, name string, words ...string) {
	t.Helper()
	eventually(t, "an event of "+kind+" "+name, func() error {
		for line := range strings.Lines(events(t, kind, name)) {
			found := true
			for _, word := range words {
				found = found && strings.Contains(line, word)
			}
			if found {
				return nil
			}
		}
		return fmt.Errorf("none says %q", words)
	})
}

// A disk that is not mounted leaves an empty folder, which is not taken for the datastore.
func TestADatastoreWhoseDiskIsAwayIsReported(t *testing.T) {
	if _, err := in(t.Context(), nodes[1], "umount", pool); err != nil {
		t.Fatal(err)
	}
	const mount = "mountpoint -q " + pool + " || mount -o loop /srv/disk.img " + pool
	t.Cleanup(func() {
		if _, err := in(context.WithoutCancel(t.Context()), nodes[1], "sh", "-c", mount); err != nil {
			t.Error(err)
		}
	})
	says(t, "Datastore", "fast", "Warning", "Unavailable", nodes[1])
	if _, err := in(t.Context(), nodes[1], "sh", "-c", mount); err != nil {
		t.Fatal(err)
	}
	says(t, "Datastore", "fast", "Normal", "Healthy")
	do(t, "wait", "--for=condition=Ready", "--timeout="+patience.String(), "datastore/fast")
	if all := strings.Split(events(t, "Datastore", "fast"), "\n"); len(all) > 8 {
		t.Errorf("a storm of %d events: %q", len(all), all)
	}
}

func TestDeletingARecordDestroysNoData(t *testing.T) {
	data, user := claim("kept", "32Mi"), pod("keeper", "kept", wait)
	apply(t, data, user)
	ready(t, user)
	sum := shell(t, user, "head -c 4194304 /dev/urandom >/data/file; sync; sha256sum </data/file")
	volume := get(t, "pvc/kept", ".spec.volumeName")
	do(t, "delete", "--wait=false", "datastorevolume/"+volume)
	says(t, "DatastoreVolume", volume, "Warning", "RecordDeleted")
	says(t, "PersistentVolumeClaim", "kept", "Warning", "RecordDeleted", volume)
	rolling := "daemonset/datastore-csi-node"
	do(t, "rollout", "restart", "-n", namespace, rolling)
	rolledOut(t)
	if got := shell(t, user, "sync; echo 3 >/proc/sys/vm/drop_caches 2>/dev/null || true; sha256sum </data/file"); got != sum {
		t.Errorf("the sum is %s, want %s", got, sum)
	}
	remove(t, user, data)
	nothingLeft(t)
}
