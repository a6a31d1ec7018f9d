package chart_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	strict "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/datastore-csi/datastore-csi/test/chart/render"
)

// folder of the chart.
const folder = "../../charts/datastore-csi"

// everything that the chart can do, at once.
var everything = map[string]any{
	"imagePullSecrets": []any{map[string]any{"name": "registry"}},
	"clusterID":        "production",
	"snapshots":        map[string]any{"enabled": true, "default": true, "parameters": map[string]any{"snapshotSize": "20%"}},
	"datastores": []any{map[string]any{
		"name": "fast", "labels": map[string]any{"tier": "gold"},
		"spec": map[string]any{"type": "directory", "directory": map[string]any{"path": "/srv/fast"}},
	}},
	"controller":    map[string]any{"annotations": map[string]any{"example.com/a": "b"}, "nodeSelector": map[string]any{"disk": "ssd"}},
	"node":          map[string]any{"annotations": map[string]any{"example.com/a": "b"}, "nodeSelector": map[string]any{"disk": "ssd"}, "maxVolumesPerNode": 100},
	"networkPolicy": map[string]any{"egress": map[string]any{"enabled": true}},
	"metrics": map[string]any{
		"enabled": true, "from": []any{map[string]any{"namespaceSelector": map[string]any{}}},
		"serviceMonitor":   map[string]any{"enabled": true, "labels": map[string]any{"release": "prometheus"}},
		"prometheusRule":   map[string]any{"enabled": true, "labels": map[string]any{"release": "prometheus"}},
		"grafanaDashboard": map[string]any{"enabled": true},
	},
	"namespace": map[string]any{"create": true},
}

// foreign are kinds whose types are not Kubernetes' own. The API server judges them (test/install).
var foreign = map[string]bool{"Datastore": true, "ServiceMonitor": true, "PrometheusRule": true, "VolumeSnapshotClass": true}

// object is one that the chart made; decoded is its type of Kubernetes', or nil.
type object struct {
	kind, name, namespace, text string
	labels, annotations         map[string]string
	decoded                     runtime.Object
}

// cluster is what an installation brings into one.
type cluster struct {
	objects []object
	hooks   []object
	crds    []render.Manifest
	notes   string
}

// install renders the chart and decodes each object strictly: a field that Kubernetes doesn't know fails the test.
func install(t *testing.T, o render.Options) *cluster {
	t.Helper()
	rendered, err := render.Chart(folder, o)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{crds: rendered.CRDs, notes: rendered.Notes}
	for _, m := range rendered.Objects {
		c.objects = append(c.objects, decode(t, m.Source, m.Text))
	}
	for _, h := range rendered.Hooks {
		c.hooks = append(c.hooks, decode(t, h.Path, h.Manifest))
	}
	return c
}

func decode(t *testing.T, source, text string) object {
	t.Helper()
	var about metav1.PartialObjectMetadata
	if err := yaml.Unmarshal([]byte(text), &about); err != nil {
		t.Fatalf("%s: %v\n%s", source, err, text)
	}
	o := object{
		kind: about.Kind, name: about.Name, namespace: about.Namespace, text: text,
		labels: about.Labels, annotations: about.Annotations,
	}
	switch {
	case foreign[o.kind]:
		var content map[string]any
		if err := yaml.UnmarshalStrict([]byte(text), &content); err != nil {
			t.Errorf("%s: %v\n%s", source, err, text)
		}
	default:
		decoder := strict.NewSerializerWithOptions(strict.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, strict.SerializerOptions{Yaml: true, Strict: true})
		decoded, _, err := decoder.Decode([]byte(text), nil, nil)
		if err != nil {
			t.Errorf("%s: %s/%s: %v", source, o.kind, o.name, err)
		}
		o.decoded = decoded
	}
	return o
}

// names are those of all objects, with their kinds.
func (c *cluster) names() []string {
	var out []string
	for _, o := range c.objects {
		out = append(out, o.kind+"/"+o.name)
	}
	return out
}

func (c *cluster) find(t *testing.T, kind, name string) object {
	t.Helper()
	for _, o := range c.objects {
		if o.kind == kind && o.name == name {
			return o
		}
	}
	t.Fatalf("there is no %s/%s; there are %s", kind, name, strings.Join(c.names(), ", "))
	return object{}
}

// get finds an object of one of Kubernetes' types.
func get[T any](t *testing.T, c *cluster, kind, name string) *T {
	t.Helper()
	o := c.find(t, kind, name)
	typed, ok := any(o.decoded).(*T)
	if !ok {
		t.Fatalf("%s/%s is a %T", kind, name, o.decoded)
	}
	return typed
}

func (c *cluster) controller(t *testing.T) corev1.PodSpec {
	t.Helper()
	return get[appsv1.Deployment](t, c, "Deployment", "datastore-csi-controller").Spec.Template.Spec
}

func (c *cluster) node(t *testing.T) corev1.PodSpec {
	t.Helper()
	return get[appsv1.DaemonSet](t, c, "DaemonSet", "datastore-csi-node").Spec.Template.Spec
}

// free are values whose content is the user's.
var free = map[string]bool{
	"controller.resources": true, "controller.sidecarResources": true, "node.resources": true, "controller.tolerations": true, "node.tolerations": true,
	"metrics.grafanaDashboard.labels": true, "storageClasses": true,
}

// valuePaths are the values of values.yaml, as a.b.c.
func valuePaths(t *testing.T) map[string]bool {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(folder, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(content, &values); err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	var walk func(prefix string, m map[string]any)
	walk = func(prefix string, m map[string]any) {
		for key, value := range m {
			path := prefix + key
			below, ok := value.(map[string]any)
			if !ok || len(below) == 0 || free[path] {
				out[path] = true
				continue
			}
			walk(path+".", below)
		}
	}
	walk("", values)
	return out
}

// schema is a part of a JSON schema.
type schema struct {
	Ref         string            `json:"$ref"`
	Properties  map[string]schema `json:"properties"`
	Definitions map[string]schema `json:"definitions"`
}

// schemaPaths are the values that the schema knows, as a.b.c.
func schemaPaths(t *testing.T) map[string]bool {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(folder, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var top schema
	if err := json.Unmarshal(content, &top); err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	var walk func(prefix string, s schema)
	walk = func(prefix string, s schema) {
		for key, below := range s.Properties {
			path := prefix + key
			if name, ok := strings.CutPrefix(below.Ref, "#/definitions/"); ok {
				below = top.Definitions[name]
			}
			if len(below.Properties) == 0 || free[path] {
				out[path] = true
				continue
			}
			walk(path+".", below)
		}
	}
	walk("", top)
	return out
}

// metricNames are found in expressions and in the document of the metrics.
var metricNames = regexp.MustCompile(`datastore_csi_[a-z_]+`)

// documentedMetrics are those of docs/metrics.md.
func documentedMetrics(t *testing.T) map[string]bool {
	t.Helper()
	content, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, name := range metricNames.FindAllString(string(content), -1) {
		out[name] = true
	}
	return out
}
