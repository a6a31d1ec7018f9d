package chart_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/datastore-csi/datastore-csi/test/chart/render"
)

func TestHelmLintFindsNothing(t *testing.T) {
	version, err := common.ParseKubeVersion("1.36.0")
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range map[string]map[string]any{"no values": nil, "everything": everything} {
		found := lint.RunAll(folder, values, "datastore-csi", lint.WithKubeVersion(version))
		for _, m := range found.Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %s", name, m.Error())
			}
		}
	}
}

func TestAnInstallationWithNoValues(t *testing.T) {
	c := install(t, render.Options{})
	want := []string{
		"ClusterRole/datastore-csi-controller", "ClusterRole/datastore-csi-node",
		"ClusterRoleBinding/datastore-csi-controller", "ClusterRoleBinding/datastore-csi-node",
		"CSIDriver/datastore-csi.io", "DaemonSet/datastore-csi-node", "Deployment/datastore-csi-controller",
		"NetworkPolicy/datastore-csi-controller", "PodDisruptionBudget/datastore-csi-controller",
		"Role/datastore-csi-controller", "Role/datastore-csi-node", "RoleBinding/datastore-csi-controller", "RoleBinding/datastore-csi-node",
		"ServiceAccount/datastore-csi-controller", "ServiceAccount/datastore-csi-node", "StorageClass/datastore-csi",
		"ValidatingAdmissionPolicy/agents.datastore-csi.io", "ValidatingAdmissionPolicy/controller.datastore-csi.io", "ValidatingAdmissionPolicy/leases.datastore-csi.io",
		"ValidatingAdmissionPolicyBinding/agents.datastore-csi.io", "ValidatingAdmissionPolicyBinding/controller.datastore-csi.io",
		"ValidatingAdmissionPolicyBinding/leases.datastore-csi.io",
	}
	got := c.names()
	slices.SortFunc(want, byLower)
	slices.SortFunc(got, byLower)
	if !slices.Equal(got, want) {
		t.Errorf("objects\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func byLower(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) }

// Distributions keep the kubelet's folder in different places. The driver finds it by itself.
func TestNoPathOfAKubeletIsTemplated(t *testing.T) {
	for _, o := range install(t, render.Options{Values: everything, APIs: []string{render.SnapshotAPI}}).objects {
		if strings.Contains(o.text, "kubelet/") || strings.Contains(o.text, "plugins_registry") {
			t.Errorf("%s/%s names a folder of the kubelet", o.kind, o.name)
		}
	}
}

func TestEveryObjectIsKnownAsTheReleases(t *testing.T) {
	for _, o := range install(t, render.Options{Release: "storage", Namespace: "elsewhere", Values: everything}).objects {
		if o.labels["app.kubernetes.io/name"] != "datastore-csi" || o.labels["app.kubernetes.io/instance"] != "storage" ||
			o.labels["app.kubernetes.io/managed-by"] != "Helm" {
			t.Errorf("%s/%s has labels %v", o.kind, o.name, o.labels)
		}
		if o.namespace != "" && o.namespace != "elsewhere" {
			t.Errorf("%s/%s is in namespace %s, not in the release's", o.kind, o.name, o.namespace)
		}
		if strings.Contains(o.text, "namespace: datastore-csi") {
			t.Errorf("%s/%s names a namespace that the release is not in", o.kind, o.name)
		}
	}
}

// What is written here is what upgrades depend on: Kubernetes refuses to change a selector.
func TestSelectorsNeverChange(t *testing.T) {
	c := install(t, render.Options{})
	deployment := get[appsv1.Deployment](t, c, "Deployment", "datastore-csi-controller")
	set := get[appsv1.DaemonSet](t, c, "DaemonSet", "datastore-csi-node")
	for component, found := range map[string]map[string]string{
		"controller": deployment.Spec.Selector.MatchLabels, "node": set.Spec.Selector.MatchLabels,
	} {
		want := map[string]string{"app.kubernetes.io/name": "datastore-csi", "app.kubernetes.io/component": component}
		if fmt.Sprint(found) != fmt.Sprint(want) {
			t.Errorf("selector of the %s is %v, want %v", component, found, want)
		}
	}
}

func TestTheCSIDriver(t *testing.T) {
	spec := get[storagev1.CSIDriver](t, install(t, render.Options{}), "CSIDriver", "datastore-csi.io").Spec
	yes, no := func(b *bool) bool { return b != nil && *b }, func(b *bool) bool { return b != nil && !*b }
	if !yes(spec.AttachRequired) || !yes(spec.StorageCapacity) || !no(spec.PodInfoOnMount) || !no(spec.SELinuxMount) ||
		spec.FSGroupPolicy == nil || *spec.FSGroupPolicy != storagev1.FileFSGroupPolicy ||
		!slices.Equal(spec.VolumeLifecycleModes, []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}) {
		t.Errorf("got %+v", spec)
	}
}

func TestImages(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	rows := map[string]struct {
		values map[string]any
		want   map[string]string
	}{
		"by the chart's own version": {nil, map[string]string{
			"node": "ghcr.io/datastore-csi/datastore-csi:0.1.0", "controller": "ghcr.io/datastore-csi/datastore-csi-controller:0.1.0",
			"csi-attacher": "registry.k8s.io/sig-storage/csi-attacher:v4.12.0",
		}},
		"by tag and digest": {
			map[string]any{"images": map[string]any{
				"node": map[string]any{"tag": "0.2.0", "digest": digest}, "attacher": map[string]any{"digest": digest},
			}},
			map[string]string{
				"node":         "ghcr.io/datastore-csi/datastore-csi:0.2.0@" + digest,
				"csi-attacher": "registry.k8s.io/sig-storage/csi-attacher:v4.12.0@" + digest,
			},
		},
		"of another registry": {
			map[string]any{"imageRegistry": "registry.example.com:5000/mirror/"},
			map[string]string{
				"node":         "registry.example.com:5000/mirror/datastore-csi/datastore-csi:0.1.0",
				"csi-attacher": "registry.example.com:5000/mirror/sig-storage/csi-attacher:v4.12.0",
			},
		},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			c := install(t, render.Options{Values: row.values})
			got := map[string]string{"node": c.node(t).Containers[0].Image}
			for _, container := range c.controller(t).Containers {
				got[container.Name] = container.Image
			}
			got["controller"] = got["driver"]
			for container, image := range row.want {
				if got[container] != image {
					t.Errorf("image of %s is %s, want %s", container, got[container], image)
				}
			}
		})
	}
}

// What one of them marks the other must know as its own.
func TestBothRolesSayTheSameCluster(t *testing.T) {
	c := install(t, render.Options{Values: everything})
	for name, container := range map[string]corev1.Container{"controller": c.controller(t).Containers[0], "node": c.node(t).Containers[0]} {
		if !slices.Contains(container.Args, "--cluster-id=production") {
			t.Errorf("%s: %v", name, container.Args)
		}
	}
}

func TestTheSidecars(t *testing.T) {
	pod := install(t, render.Options{APIs: []string{render.SnapshotAPI}}).controller(t)
	rows := map[string][]string{
		"csi-provisioner": {
			"--feature-gates=Topology=true", "--extra-create-metadata", "--enable-capacity", "--capacity-ownerref-level=2",
			"--capacity-poll-interval=20s", "--worker-threads=100",
		},
		"csi-attacher":    {"--worker-threads=100"},
		"csi-resizer":     {"--workers=20", "--handle-volume-inuse-error=false"},
		"csi-snapshotter": {"--worker-threads=20", "--extra-create-metadata"},
	}
	ports := map[int32]string{}
	for _, container := range pod.Containers {
		for _, port := range container.Ports {
			if other, taken := ports[port.ContainerPort]; taken {
				t.Errorf("port %d is that of %s and of %s", port.ContainerPort, other, container.Name)
			}
			ports[port.ContainerPort] = container.Name
		}
		if container.Name == "driver" {
			continue
		}
		want, known := rows[container.Name]
		if !known {
			t.Errorf("container %s", container.Name)
		}
		delete(rows, container.Name)
		want = append(want, "--csi-address=/csi/csi.sock", "--leader-election=true", "--leader-election-namespace=$(NAMESPACE)",
			"--timeout=120s", "--kube-api-qps=100", "--kube-api-burst=200")
		for _, flag := range want {
			if !slices.Contains(container.Args, flag) {
				t.Errorf("%s lacks %s: %v", container.Name, flag, container.Args)
			}
		}
		for _, flag := range container.Args {
			if strings.HasPrefix(flag, "--default-fstype") || strings.HasPrefix(flag, "--strict-topology") {
				t.Errorf("%s has %s", container.Name, flag)
			}
		}
		if container.LivenessProbe == nil {
			t.Errorf("%s has no probe", container.Name)
		}
	}
	if len(rows) > 0 {
		t.Errorf("sidecars that are missing: %v", rows)
	}
}

func TestSnapshots(t *testing.T) {
	rows := map[string]struct {
		enabled any
		apis    []string
		want    bool
	}{
		"where the cluster has them":            {"auto", []string{render.SnapshotAPI}, true},
		"where the cluster doesn't":             {"auto", nil, false},
		"asked for whatever the cluster has":    {true, nil, true},
		"not wanted, though the cluster has it": {false, []string{render.SnapshotAPI}, false},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			c := install(t, render.Options{Values: map[string]any{"snapshots": map[string]any{"enabled": row.enabled}}, APIs: row.apis})
			sidecar := slices.ContainsFunc(c.controller(t).Containers, func(c corev1.Container) bool { return c.Name == "csi-snapshotter" })
			class := slices.Contains(c.names(), "VolumeSnapshotClass/datastore-csi")
			role := strings.Contains(c.find(t, "ClusterRole", "datastore-csi-controller").text, "snapshot.storage.k8s.io")
			if sidecar != row.want || class != row.want || role != row.want {
				t.Errorf("sidecar %t, class %t, role %t, want %t", sidecar, class, role, row.want)
			}
		})
	}
}

func TestStorageClasses(t *testing.T) {
	c := install(t, render.Options{Values: map[string]any{"storageClasses": []any{
		map[string]any{"name": "fast", "default": true, "parameters": map[string]any{"datastore": "fast", "stripes": 2}, "mountOptions": []any{"noatime"}},
		map[string]any{"name": "now", "volumeBindingMode": "Immediate", "reclaimPolicy": "Retain", "allowVolumeExpansion": false},
	}}})
	fast := get[storagev1.StorageClass](t, c, "StorageClass", "fast")
	if fast.Provisioner != "datastore-csi.io" || fast.Parameters["datastore"] != "fast" || fast.Parameters["stripes"] != "2" ||
		!slices.Equal(fast.MountOptions, []string{"noatime"}) || fast.Annotations["storageclass.kubernetes.io/is-default-class"] != "true" ||
		*fast.VolumeBindingMode != storagev1.VolumeBindingWaitForFirstConsumer || *fast.ReclaimPolicy != corev1.PersistentVolumeReclaimDelete || !*fast.AllowVolumeExpansion {
		t.Errorf("got %+v", fast)
	}
	now := get[storagev1.StorageClass](t, c, "StorageClass", "now")
	if *now.VolumeBindingMode != storagev1.VolumeBindingImmediate || *now.ReclaimPolicy != corev1.PersistentVolumeReclaimRetain || *now.AllowVolumeExpansion ||
		now.Annotations["storageclass.kubernetes.io/is-default-class"] != "false" {
		t.Errorf("got %+v", now)
	}
	if slices.Contains(c.names(), "StorageClass/datastore-csi") {
		t.Error("the class that there is by default is there beside those that were asked for")
	}
}

func TestTheSchemaRefuses(t *testing.T) {
	rows := map[string]struct {
		values map[string]any
		says   string
	}{
		"a value that doesn't exist":                {map[string]any{"replicas": 3}, "replicas"},
		"a misspelt value deeper down":              {map[string]any{"controller": map[string]any{"replica": 3}}, "replica"},
		"a type that is another":                    {map[string]any{"verbosity": "high"}, "verbosity"},
		"a controller without a replica":            {map[string]any{"controller": map[string]any{"replicas": 0}}, "replicas"},
		"a timeout shorter than a minute":           {map[string]any{"controller": map[string]any{"timeout": "15s"}}, "timeout"},
		"a digest that is none":                     {map[string]any{"images": map[string]any{"node": map[string]any{"digest": "latest"}}}, "digest"},
		"a relative state directory":                {map[string]any{"node": map[string]any{"stateDir": "var/lib"}}, "stateDir"},
		"a state directory that is the host's root": {map[string]any{"node": map[string]any{"stateDir": "/"}}, "stateDir"},
		"a datastore without a spec":                {map[string]any{"datastores": []any{map[string]any{"name": "a"}}}, "spec"},
		"a datastore whose name is no label":        {map[string]any{"datastores": []any{map[string]any{"name": "a.b", "spec": map[string]any{"type": "directory"}}}}, "name"},
		"a class that binds in another way":         {map[string]any{"storageClasses": []any{map[string]any{"name": "a", "volumeBindingMode": "Later"}}}, "volumeBindingMode"},
		"a port that doesn't exist":                 {map[string]any{"node": map[string]any{"healthPort": 98090}}, "healthPort"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			_, err := render.Chart(folder, render.Options{Values: row.values})
			if err == nil || !strings.Contains(err.Error(), row.says) {
				t.Errorf("got %v, want an error that names %s", err, row.says)
			}
		})
	}
}

// The schema and the values are two lists of the same things.
func TestEveryValueStandsInTheSchemaAndTheOtherWayRound(t *testing.T) {
	values, schema := valuePaths(t), schemaPaths(t)
	for path := range values {
		if !schema[path] {
			t.Errorf("values.yaml has %s, which the schema doesn't", path)
		}
	}
	for path := range schema {
		if !values[path] && path != "global" {
			t.Errorf("the schema has %s, which values.yaml doesn't show", path)
		}
	}
}

func TestPodsAreAskedForTheirHealth(t *testing.T) {
	c := install(t, render.Options{})
	for name, container := range map[string]corev1.Container{"controller": c.controller(t).Containers[0], "node": c.node(t).Containers[0]} {
		if container.LivenessProbe.HTTPGet.Path != "/healthz" || container.ReadinessProbe.HTTPGet.Path != "/readyz" {
			t.Errorf("%s: %v, %v", name, container.LivenessProbe, container.ReadinessProbe)
		}
	}
	probe := c.node(t).Containers[0].LivenessProbe.HTTPGet
	if probe.Host != "127.0.0.1" || !slices.Contains(c.node(t).Containers[0].Args, "--health-address=127.0.0.1:"+probe.Port.String()) {
		t.Errorf("the node's health is asked for at %s:%s", probe.Host, probe.Port.String())
	}
}

func TestDisruptions(t *testing.T) {
	c := install(t, render.Options{})
	if c.controller(t).PriorityClassName != "system-cluster-critical" || c.node(t).PriorityClassName != "system-node-critical" {
		t.Errorf("priorities %s and %s", c.controller(t).PriorityClassName, c.node(t).PriorityClassName)
	}
	if tolerations := c.node(t).Tolerations; len(tolerations) != 1 || tolerations[0].Operator != corev1.TolerationOpExists || tolerations[0].Key != "" {
		t.Errorf("the node pods tolerate %v, want everything", tolerations)
	}
	if !strings.Contains(c.find(t, "PodDisruptionBudget", "datastore-csi-controller").text, "maxUnavailable: 1") {
		t.Error("a drain may take both controllers at once")
	}
}
