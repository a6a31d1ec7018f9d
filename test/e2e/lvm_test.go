package e2e_test

import (
	"fmt"
	"strings"
	"testing"
)

// machine is the node whose kernel has device-mapper, which nothing enters but a pod.
const machine = "node3"

// onMachine runs a script on that node itself, by a pod that is there already.
func onMachine(t *testing.T, admin object, script string) string {
	t.Helper()
	return do(t, "exec", admin.name(), "--", "nsenter", "-t", "1", "-m", "-p", "--", "/bin/sh", "-ec", script)
}

// LVM's tools run from the image, on devices of the host.
func TestAVolumeGroup(t *testing.T) {
	admin := named("v1", "Pod", "admin")
	admin["spec"] = object{
		"hostPID": true, "nodeName": machine, "terminationGracePeriodSeconds": 1,
		"tolerations": []any{object{"operator": "Exists"}},
		"containers": []any{object{
			"name": "c", "image": "busybox:stable", "imagePullPolicy": "IfNotPresent", "command": []string{"sh", "-c", wait},
			"securityContext": object{"privileged": true},
		}},
	}
	apply(t, admin)
	ready(t, admin)
	device := onMachine(t, admin, "truncate -s 4G /srv/lvm.img; losetup --find --show /srv/lvm.img")
	group := named("datastore-csi.io/v1alpha1", "Datastore", "group")
	group["spec"] = object{"type": "lvm", "hosts": []string{machine}, "lvm": object{
		"volumeGroup": "e2e", "devices": []string{device}, "provision": "IfEmpty", "thinPool": object{"name": "pool", "size": "80%"},
	}}
	class := named("storage.k8s.io/v1", "StorageClass", "group")
	for field, value := range map[string]any{
		"provisioner": "datastore-csi.io", "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true, "parameters": object{"datastore": "group"},
	} {
		class[field] = value
	}
	apply(t, group, class)
	do(t, "wait", "--for=condition=Ready", "--timeout="+patience.String(), "datastore/group")

	data, user := claim("logical", "200Mi").with("storageClassName", "group"), pod("logical", "logical", wait)
	apply(t, data, user)
	ready(t, user)
	sum := shell(t, user, write)
	taken := snapshot("logical", "logical")
	apply(t, taken)
	do(t, "wait", "--for=jsonpath={.status.readyToUse}=true", "--timeout="+patience.String(), "volumesnapshot/logical")
	shell(t, user, "echo changed >/data/file; sync")
	before := mebibytes(t, user)
	grow(t, data, "600Mi")
	grown(t, data, "600Mi")
	if after := mebibytes(t, user); after < before+350 {
		t.Errorf("the file system grew from %d to %d MiB", before, after)
	}
	copied := restored("logical-copy", "600Mi", "logical").with("storageClassName", "group")
	reader := pod("logical-copy", "logical-copy", wait)
	apply(t, copied, reader)
	ready(t, reader)
	if got := shell(t, reader, "sha256sum </data/file"); got != sum {
		t.Errorf("the sum is %s, want %s", got, sum)
	}
	remove(t, user, reader, taken, copied, data)
	nothingLeft(t)
	eventually(t, "the group has nothing but its pool", func() error {
		out := onMachine(t, admin, "ls /dev/e2e 2>/dev/null || true; dmsetup ls | cut -f 1 | grep -v pool || true")
		if strings.Contains(out, "pvc-") || strings.Contains(out, "snapshot") {
			return fmt.Errorf("there are %q", strings.Fields(out))
		}
		return nil
	})
	remove(t, group)
}
