package chart_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/datastore-csi/datastore-csi/test/chart/render"
)

// crd is what is told of a custom resource's definition here.
type crd struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Scope    string
		Versions []struct {
			Name         string
			Subresources map[string]any
		}
	}
}

func TestTheCRDsAreInstalledFirst(t *testing.T) {
	var names []string
	for _, m := range install(t, render.Options{}).crds {
		var d crd
		if err := yaml.Unmarshal([]byte(m.Text), &d); err != nil {
			t.Fatalf("%s: %v", m.Source, err)
		}
		names = append(names, d.Metadata.Name)
		// The admission policy lets agents write the status of records; without the sub-resource that would be the whole record.
		if _, ok := d.Spec.Versions[0].Subresources["status"]; d.Kind != "CustomResourceDefinition" || d.Spec.Scope != "Cluster" || !ok {
			t.Errorf("%s: %+v", m.Source, d)
		}
	}
	want := []string{
		"datastorehosts.datastore-csi.io", "datastores.datastore-csi.io", "datastoresnapshots.datastore-csi.io", "datastorevolumes.datastore-csi.io",
	}
	if !slices.Equal(names, want) {
		t.Errorf("CRDs %v, want %v", names, want)
	}
}

// Helm installs CRDs, and neither upgrades nor deletes them: a job upgrades them, which may touch no others.
func TestAnUpgradeBeginsWithTheCRDs(t *testing.T) {
	c := install(t, render.Options{})
	var kinds []string
	for _, o := range c.hooks {
		kinds = append(kinds, o.kind)
		if o.annotations["helm.sh/hook"] != "pre-upgrade" || o.annotations["helm.sh/hook-delete-policy"] != "before-hook-creation,hook-succeeded" {
			t.Errorf("%s/%s has annotations %v", o.kind, o.name, o.annotations)
		}
		switch typed := o.decoded.(type) {
		case *rbacv1.ClusterRole:
			for _, rule := range typed.Rules {
				if !slices.Equal(rule.Verbs, []string{"create"}) && len(rule.ResourceNames) != len(c.crds) {
					t.Errorf("rule %v", rule)
				}
			}
		case *corev1.ConfigMap:
			for _, m := range c.crds {
				name := m.Source[strings.LastIndex(m.Source, "/")+1:]
				if typed.Data[name] != m.Text && typed.Data[name] != "---\n"+m.Text {
					t.Errorf("the job gets another %s than the one that is installed", name)
				}
			}
		}
	}
	slices.Sort(kinds)
	if want := []string{"ClusterRole", "ClusterRoleBinding", "ConfigMap", "Job", "ServiceAccount"}; !slices.Equal(kinds, want) {
		t.Errorf("hooks %v, want %v", kinds, want)
	}
}

func TestCRDsThatOthersUpgradeAreLeftToThem(t *testing.T) {
	if c := install(t, render.Options{Values: map[string]any{"upgradeCRDs": false}}); len(c.hooks) != 0 {
		t.Errorf("%d hooks", len(c.hooks))
	}
}

// Records outlive the release: what Helm deletes at uninstall bears no data and no record of data.
func TestAnUninstallLeavesRecords(t *testing.T) {
	for _, o := range install(t, render.Options{Values: everything}).objects {
		if strings.HasPrefix(o.kind, "Datastore") && o.annotations["helm.sh/resource-policy"] != "keep" {
			t.Errorf("Helm deletes %s/%s", o.kind, o.name)
		}
		if o.kind == "CustomResourceDefinition" || o.kind == "PersistentVolume" {
			t.Errorf("Helm deletes %s/%s at uninstall", o.kind, o.name)
		}
	}
}
