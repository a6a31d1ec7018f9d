package e2e_test

import (
	"fmt"
	"strings"
	"testing"
)

func TestKindsOfVolumes(t *testing.T) {
	t.Run("all", func(t *testing.T) {
		t.Run("a raw block device keeps its bytes", rawBlock)
		t.Run("ReadWriteOncePod is for one pod", oncePod)
		t.Run("a group owns the files", fsGroup)
		t.Run("an ephemeral volume goes with its pod", ephemeral)
		t.Run("an immediate claim waits for no pod", immediate)
		t.Run("what can't be is said on the claim", impossible)
	})
	nothingLeft(t)
}

func rawBlock(t *testing.T) {
	t.Parallel()
	data := claim("block", "64Mi").with("volumeMode", "Block")
	user := func() object {
		p := pod("blocker", "block", wait)
		delete(p.container(), "volumeMounts")
		p.container()["volumeDevices"] = []any{object{"name": "data", "devicePath": "/dev/data"}}
		return p
	}
	first := user()
	apply(t, data, first)
	ready(t, first)
	sum := shell(t, first, "head -c 67108864 /dev/urandom >/tmp/data; dd if=/tmp/data of=/dev/data bs=1M conv=fsync 2>/dev/null; sha256sum </tmp/data")
	remove(t, first)
	second := user()
	apply(t, second)
	ready(t, second)
	if got := shell(t, second, "head -c 67108864 /dev/data | sha256sum"); got != sum {
		t.Errorf("the sum is %s, want %s", got, sum)
	}
	if size := shell(t, second, "blockdev --getsize64 /dev/data"); size != "67108864" {
		t.Errorf("the device has %s bytes", size)
	}
	remove(t, second, data)
}

func oncePod(t *testing.T) {
	t.Parallel()
	data := claim("one", "32Mi").with("accessModes", []string{"ReadWriteOncePod"})
	first, second := pod("first", "one", wait), pod("second", "one", wait)
	apply(t, data, first)
	ready(t, first)
	apply(t, second)
	eventually(t, "the second pod is refused", func() error {
		if got := get(t, "pod/second", `.status.conditions[?(@.type=="PodScheduled")].message`); !strings.Contains(got, "ReadWriteOncePod") {
			return fmt.Errorf("it says %q", got)
		}
		return nil
	})
	remove(t, first)
	ready(t, second)
	remove(t, second, data)
}

func fsGroup(t *testing.T) {
	t.Parallel()
	data := claim("group", "32Mi")
	user := pod("grouped", "group", wait).with("securityContext", object{"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000, "runAsNonRoot": true})
	apply(t, data, user)
	ready(t, user)
	if got := shell(t, user, "echo mine >/data/file; stat -c '%g' /data/file; stat -c '%g %A' /data"); got != "2000\n2000 drwxrwsr-x" {
		t.Errorf("file and folder are of %q", got)
	}
	remove(t, user, data)
}

func ephemeral(t *testing.T) {
	t.Parallel()
	user := pod("passing", "", "echo data >/data/file; "+wait)
	user["spec"].(object)["volumes"] = []any{object{"name": "data", "ephemeral": object{"volumeClaimTemplate": object{"spec": claimSpec("32Mi")}}}}
	apply(t, user)
	ready(t, user)
	if got := get(t, "pvc/passing-data", ".status.phase"); got != "Bound" {
		t.Errorf("its claim is %s", got)
	}
	remove(t, user)
	eventually(t, "its claim is gone", func() error {
		if out := do(t, "get", "pvc", "passing-data", "--ignore-not-found", "-o", "name"); out != "" {
			return fmt.Errorf("there is %s", out)
		}
		return nil
	})
}

func immediate(t *testing.T) {
	t.Parallel()
	data := claim("now", "300Mi").with("storageClassName", "immediate")
	apply(t, data)
	do(t, "wait", "--for=jsonpath={.status.phase}=Bound", "--timeout="+patience.String(), "pvc/now")
	user := pod("later", "now", wait)
	apply(t, user)
	ready(t, user)
	remove(t, user, data)
}

func impossible(t *testing.T) {
	t.Parallel()
	data := claim("huge", "100Ti").with("storageClassName", "immediate")
	apply(t, data)
	eventually(t, "the claim says why there is no volume", func() error {
		said := do(t, "get", "events", "--field-selector=involvedObject.name=huge", "-o", "jsonpath={.items[*].message}")
		if !strings.Contains(said, "fast") || !strings.Contains(said, "ResourceExhausted") {
			return fmt.Errorf("it says %q", said)
		}
		return nil
	})
	remove(t, data)
}
