package chart_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/datastore-csi/datastore-csi/test/chart/render"
)

// podSecurity says what the Pod Security admission has against a pod at a level; "" is nothing.
func podSecurity(t *testing.T, level api.Level, pod corev1.PodSpec) string {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var against []string
	for _, result := range evaluator.EvaluatePod(api.LevelVersion{Level: level, Version: api.LatestVersion()}, &metav1.ObjectMeta{}, &pod) {
		if !result.Allowed {
			against = append(against, result.ForbiddenReason+": "+result.ForbiddenDetail)
		}
	}
	return strings.Join(against, "; ")
}

func TestTheControllerHasNoPrivilege(t *testing.T) {
	c := install(t, render.Options{Values: everything})
	pod := c.controller(t)
	if against := podSecurity(t, api.LevelRestricted, pod); against != "" {
		t.Errorf("Pod Security restricted: %s", against)
	}
	for _, container := range pod.Containers {
		if s := container.SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
			t.Errorf("%s may write to its root file system", container.Name)
		}
	}
	for _, v := range pod.Volumes {
		if v.HostPath != nil || v.Secret != nil {
			t.Errorf("the controller has volume %s", v.Name)
		}
	}
}

func TestTheUpgradeOfCRDsHasNoPrivilege(t *testing.T) {
	for _, o := range install(t, render.Options{}).hooks {
		job, ok := o.decoded.(*batchv1.Job)
		if !ok {
			continue
		}
		if against := podSecurity(t, api.LevelRestricted, job.Spec.Template.Spec); against != "" {
			t.Errorf("Pod Security restricted: %s", against)
		}
	}
}

// The evaluator of Pod Security is a test of the others only if it finds something.
func TestTheNodePodsNeedANamespaceThatAllowsThem(t *testing.T) {
	c := install(t, render.Options{Values: map[string]any{"namespace": map[string]any{"create": true}}})
	if podSecurity(t, api.LevelBaseline, c.node(t)) == "" {
		t.Error("Pod Security baseline has nothing against a privileged pod on the host's network")
	}
	namespace := get[corev1.Namespace](t, c, "Namespace", "datastore-csi")
	if namespace.Labels["pod-security.kubernetes.io/enforce"] != "privileged" {
		t.Errorf("the namespace has labels %v", namespace.Labels)
	}
}

// Each host path stands in the document with its reason, and so does each privilege.
func TestEveryPrivilegeOfTheNodeStandsInTheSecurityDocument(t *testing.T) {
	document, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	pod := install(t, render.Options{}).node(t)
	wanted := []string{"privileged", "hostNetwork", "hostPID"}
	for _, v := range pod.Volumes {
		if v.HostPath != nil {
			wanted = append(wanted, v.HostPath.Path)
		}
	}
	for _, what := range wanted {
		if !strings.Contains(string(document), "| `"+what+"`") {
			t.Errorf("docs/security.md has no row for %s", what)
		}
	}
	container := pod.Containers[0]
	s := container.SecurityContext
	if len(pod.Containers) != 1 || len(pod.InitContainers) != 0 || !pod.HostNetwork || !pod.HostPID || pod.HostIPC || !*s.Privileged || !*s.ReadOnlyRootFilesystem {
		t.Errorf("pod %+v", pod)
	}
	for _, m := range container.VolumeMounts {
		if m.MountPropagation != nil {
			t.Errorf("%s is mounted with propagation %s: mounts are made in the host's own namespace", m.Name, *m.MountPropagation)
		}
	}
}

// rules are those of a ServiceAccount of the chart, cluster-wide and in the namespace.
func (c *cluster) rules(t *testing.T, account string) []rbacv1.PolicyRule {
	t.Helper()
	return slices.Concat(get[rbacv1.ClusterRole](t, c, "ClusterRole", account).Rules, get[rbacv1.Role](t, c, "Role", account).Rules)
}

func TestNobodyReadsSecretsOrMayDoEverything(t *testing.T) {
	c := install(t, render.Options{Values: everything})
	for _, account := range []string{"datastore-csi-controller", "datastore-csi-node"} {
		for _, rule := range c.rules(t, account) {
			for _, word := range slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs) {
				if word == "*" || strings.HasPrefix(word, "secrets") || slices.Contains([]string{"impersonate", "escalate", "bind", "deletecollection"}, word) {
					t.Errorf("%s: %s in %v", account, word, rule)
				}
			}
		}
	}
}

func TestWhatTheNodePodsMayWrite(t *testing.T) {
	c := install(t, render.Options{Values: everything})
	want := map[string][]string{
		"datastorehosts": {"create"}, "datastorehosts/status": {"update", "patch"}, "datastorevolumes/status": {"update", "patch"},
		"datastoresnapshots/status": {"update", "patch"}, "events": {"create", "patch"}, "leases": {"create", "update"},
	}
	got := map[string][]string{}
	for _, rule := range c.rules(t, "datastore-csi-node") {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				if !slices.Contains([]string{"get", "list", "watch"}, verb) {
					got[resource] = append(got[resource], verb)
				}
			}
		}
	}
	for resource, verbs := range got {
		if !slices.Equal(want[resource], verbs) {
			t.Errorf("%s of %s, want %s", verbs, resource, want[resource])
		}
		delete(want, resource)
	}
	if len(want) > 0 {
		t.Errorf("lacks %v", want)
	}
}

// Leases of other names belong to others.
func TestTheControllerRenewsLeasesOfItsOwnNamesOnly(t *testing.T) {
	for _, rule := range install(t, render.Options{}).rules(t, "datastore-csi-controller") {
		if slices.Contains(rule.Resources, "leases") && (slices.Contains(rule.Verbs, "update") || slices.Contains(rule.Verbs, "patch")) && len(rule.ResourceNames) == 0 {
			t.Errorf("any lease: %v", rule)
		}
	}
}

func TestTheNetworkPolicy(t *testing.T) {
	metrics := map[string]any{"enabled": true}
	from := map[string]any{"enabled": true, "from": []any{map[string]any{"namespaceSelector": map[string]any{"matchLabels": map[string]any{"name": "monitoring"}}}}}
	rows := map[string]struct {
		values  map[string]any
		ports   int
		from    int
		egress  int
		missing bool
	}{
		"lets nobody in":                             {values: nil},
		"lets everybody at metrics":                  {values: map[string]any{"metrics": metrics}, ports: 5},
		"lets those who are named at metrics":        {values: map[string]any{"metrics": from}, ports: 5, from: 1},
		"bounds what is reached, if asked":           {values: map[string]any{"networkPolicy": map[string]any{"egress": map[string]any{"enabled": true}}}, egress: 3},
		"is missing where the administrator says so": {values: map[string]any{"networkPolicy": map[string]any{"enabled": false}}, missing: true},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			c := install(t, render.Options{Values: row.values})
			if row.missing {
				if slices.Contains(c.names(), "NetworkPolicy/datastore-csi-controller") {
					t.Error("it is there")
				}
				return
			}
			spec := get[networkingv1.NetworkPolicy](t, c, "NetworkPolicy", "datastore-csi-controller").Spec
			if !slices.Contains(spec.PolicyTypes, networkingv1.PolicyTypeIngress) || slices.Contains(spec.PolicyTypes, networkingv1.PolicyTypeEgress) != (row.egress > 0) {
				t.Errorf("types %v", spec.PolicyTypes)
			}
			var ports, peers, out int
			for _, rule := range spec.Ingress {
				ports, peers = len(rule.Ports), len(rule.From)
			}
			for _, rule := range spec.Egress {
				out = len(rule.Ports)
			}
			if ports != row.ports || peers != row.from || out != row.egress {
				t.Errorf("%d ports from %d peers, %d ports out; want %d, %d, %d", ports, peers, out, row.ports, row.from, row.egress)
			}
		})
	}
}
