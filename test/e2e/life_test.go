package e2e_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// write makes 24 MiB of data that can be told from any other, and says its sum.
const write = "head -c 25165824 /dev/urandom >/data/file; sync; sha256sum </data/file"

func TestALifeOfAClaim(t *testing.T) {
	data, user := claim("data", "200Mi"), pod("user", "data", wait)
	life := t // what is made in its parts stays to its end
	apply(life, data, user)
	ready(t, user)
	sum := shell(t, user, write)
	t.Run("its data is there for the next pod", func(t *testing.T) {
		remove(t, user)
		user = pod("user", "data", wait)
		apply(life, user)
		ready(t, user)
		if got := shell(t, user, "sha256sum </data/file"); got != sum {
			t.Errorf("the sum is %s, want %s", got, sum)
		}
	})
	copied, reader := restored("copied", "200Mi", "yesterday"), pod("reader", "copied", wait)
	t.Run("a snapshot keeps it, and a claim is restored from that", func(t *testing.T) {
		yesterday := snapshot("yesterday", "data")
		apply(life, yesterday)
		do(t, "wait", "--for=jsonpath={.status.readyToUse}=true", "--timeout="+patience.String(), "volumesnapshot/yesterday")
		shell(t, user, "echo changed >/data/file; sync")
		apply(life, copied, reader)
		ready(t, reader)
		if got := shell(t, reader, "sha256sum </data/file"); got != sum {
			t.Errorf("the sum is %s, want %s", got, sum)
		}
		if got := shell(t, user, "cat /data/file"); got != "changed" {
			t.Errorf("the snapshotted volume says %q", got)
		}
		remove(t, yesterday) // the copy needs it no more
		if got := shell(t, reader, "sha256sum </data/file"); got != sum {
			t.Errorf("without the snapshot the sum is %s, want %s", got, sum)
		}
	})
	t.Run("it grows for the next pod", func(t *testing.T) {
		before := mebibytes(t, user)
		grow(t, data, "600Mi")
		remove(t, user)
		user = pod("user", "data", wait)
		apply(life, user)
		ready(t, user)
		grown(t, data, "600Mi")
		if after := mebibytes(t, user); after < before+350 {
			t.Errorf("the file system grew from %d to %d MiB", before, after)
		}
	})
	t.Run("it goes with its claim", func(t *testing.T) {
		remove(t, user, reader, data, copied)
		nothingLeft(t)
	})
}

// Of xfs, since the kernel lets nobody grow a mounted ext4 who lacks CAP_SYS_RESOURCE, as does all that runs on some test machines.
func TestAClaimGrowsUnderItsPod(t *testing.T) {
	data, user := claim("growing", "300Mi").with("storageClassName", "xfs"), pod("grower", "growing", wait)
	apply(t, data, user)
	ready(t, user)
	before := mebibytes(t, user)
	sum := shell(t, user, write)
	grow(t, data, "900Mi")
	grown(t, data, "900Mi")
	if after := mebibytes(t, user); after < before+550 {
		t.Errorf("the file system grew from %d to %d MiB", before, after)
	}
	if got := shell(t, user, "sha256sum </data/file"); got != sum {
		t.Errorf("the sum is %s, want %s", got, sum)
	}
	remove(t, user, data)
	nothingLeft(t)
}

// mebibytes is the size of the file system in a pod.
func mebibytes(t *testing.T, pod object) int {
	t.Helper()
	size, err := strconv.Atoi(shell(t, pod, "df -m /data | awk 'END { print $2 }'"))
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// grow asks for a claim to have a size; grown waits until it has.
func grow(t *testing.T, claim object, size string) {
	t.Helper()
	do(t, "patch", "pvc", claim.name(), "--type=merge", "-p", `{"spec":{"resources":{"requests":{"storage":"`+size+`"}}}}`)
}

func grown(t *testing.T, claim object, size string) {
	t.Helper()
	eventually(t, "the claim has "+size, func() error {
		if got := get(t, "pvc/"+claim.name(), ".status.capacity.storage"); got != size {
			return fmt.Errorf("it has %s", got)
		}
		return nil
	})
}

func TestTheDriverReportsToTheAdministrator(t *testing.T) {
	t.Run("datastores", func(t *testing.T) {
		out := do(t, "get", "datastores")
		for _, want := range []string{"TYPE", "STATE", "TOTAL", "USED", "VOLUMES", "HOSTS", "fast", "directory"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %s in\n%s", want, out)
			}
		}
	})
	t.Run("what a host has, by the program in its pod", func(t *testing.T) {
		for _, node := range nodes {
			out := do(t, "exec", "-n", namespace, nodePod(t, node), "--", "/datastore-csi", "discover", "--all")
			if !strings.Contains(out, "loop") || !strings.Contains(out, pool) {
				t.Errorf("%s: neither its loop device nor %s in\n%s", node, pool, out)
			}
		}
	})
}

// nodePod names the driver's pod on a node.
func nodePod(t *testing.T, node string) string {
	t.Helper()
	return do(t, "get", "pods", "-n", namespace, "-l", "app.kubernetes.io/component=node", "--field-selector=spec.nodeName="+node, "-o", "jsonpath={.items[*].metadata.name}")
}
