package chart_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/datastore-csi/datastore-csi/test/chart/render"
)

func TestDatastoresFromValues(t *testing.T) {
	o := install(t, render.Options{Values: everything}).find(t, "Datastore", "fast")
	if o.labels["tier"] != "gold" || !strings.Contains(o.text, "path: /srv/fast") {
		t.Errorf("got\n%s", o.text)
	}
}

func TestMetricsAreOffUnlessAskedFor(t *testing.T) {
	for name, row := range map[string]struct {
		values map[string]any
		want   bool
	}{
		"nobody asks":             {nil, false},
		"asked for":               {map[string]any{"metrics": map[string]any{"enabled": true}}, true},
		"a ServiceMonitor is too": {map[string]any{"metrics": map[string]any{"serviceMonitor": map[string]any{"enabled": true}}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := install(t, render.Options{Values: row.values})
			for who, container := range map[string]corev1.Container{"controller": c.controller(t).Containers[0], "node": c.node(t).Containers[0]} {
				flag := slices.ContainsFunc(container.Args, func(arg string) bool { return strings.HasPrefix(arg, "--metrics-address=") })
				service := slices.Contains(c.names(), "Service/datastore-csi-"+who+"-metrics")
				if flag != row.want || service != row.want {
					t.Errorf("%s: flag %t, service %t, want %t", who, flag, service, row.want)
				}
			}
		})
	}
}

// A monitor names ports by the names that the services give them, and a service by those of the containers.
func TestPortsOfMonitorServicesAndContainersAreTheSame(t *testing.T) {
	c := install(t, render.Options{Values: everything})
	var monitor struct {
		Spec struct{ Endpoints []struct{ Port string } }
	}
	if err := yaml.Unmarshal([]byte(c.find(t, "ServiceMonitor", "datastore-csi").text), &monitor); err != nil {
		t.Fatal(err)
	}
	var asked, served []string
	for _, e := range monitor.Spec.Endpoints {
		asked = append(asked, e.Port)
	}
	for who, pod := range map[string]corev1.PodSpec{"controller": c.controller(t), "node": c.node(t)} {
		var ports []string
		for _, container := range pod.Containers {
			for _, port := range container.Ports {
				ports = append(ports, port.Name)
			}
		}
		for _, port := range get[corev1.Service](t, c, "Service", "datastore-csi-"+who+"-metrics").Spec.Ports {
			served = append(served, port.Name)
			if !slices.Contains(ports, port.TargetPort.StrVal) {
				t.Errorf("no container of the %s has port %s: %v", who, port.TargetPort.StrVal, ports)
			}
		}
	}
	slices.Sort(asked)
	slices.Sort(served)
	if served = slices.Compact(served); !slices.Equal(asked, served) {
		t.Errorf("the monitor asks for %v, the services have %v", asked, served)
	}
}

func TestTheDashboardAndTheRules(t *testing.T) {
	c := install(t, render.Options{Values: everything})
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	content := get[corev1.ConfigMap](t, c, "ConfigMap", "datastore-csi-dashboard").Data["datastore-csi.json"]
	if err := json.Unmarshal([]byte(content), &dashboard); err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Spec struct {
			Groups []struct {
				Rules []struct{ Alert, Expr string }
			}
		}
	}
	if err := yaml.Unmarshal([]byte(c.find(t, "PrometheusRule", "datastore-csi").text), &rules); err != nil {
		t.Fatal(err)
	}
	var expressions []string
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			expressions = append(expressions, target.Expr)
		}
	}
	for _, group := range rules.Spec.Groups {
		for _, rule := range group.Rules {
			expressions = append(expressions, rule.Expr)
		}
	}
	if len(expressions) < 10 {
		t.Errorf("%d expressions", len(expressions))
	}
	known := documentedMetrics(t)
	for _, expression := range expressions {
		for _, metric := range metricNames.FindAllString(expression, -1) {
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				if base, cut := strings.CutSuffix(metric, suffix); cut && known[base] {
					metric = base
				}
			}
			if !known[metric] {
				t.Errorf("%q asks for %s, which docs/metrics.md doesn't know", expression, metric)
			}
		}
	}
}

func TestTheNotesSayWhatComesNext(t *testing.T) {
	if notes := install(t, render.Options{}).notes; !strings.Contains(notes, "kind: Datastore") || !strings.Contains(notes, "StorageClass datastore-csi") ||
		!strings.Contains(notes, "no snapshots") {
		t.Errorf("got\n%s", notes)
	}
	notes := install(t, render.Options{Values: everything, APIs: []string{render.SnapshotAPI}}).notes
	if strings.Contains(notes, "kind: Datastore") || strings.Contains(notes, "no snapshots") {
		t.Errorf("got\n%s", notes)
	}
}
