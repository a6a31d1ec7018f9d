package kube_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// documents are the specs of datastores, as an administrator writes them, by what they show. Those of refused are
// refused.
var (
	accepted = map[string]string{
		"a directory":                        `type: directory, directory: {path: /srv/fast}`,
		"a directory with a slash behind":    `type: directory, directory: {path: /srv/fast/}`,
		"a directory with dots in its names": `type: directory, directory: {path: /srv/..fast/.a/b..c/...}`,
		"a directory that moved here":        `type: directory, directory: {path: /srv/a, adoptFrom: 0123456789abcdef0123456789abcdef}`,
		"every setting": `type: directory, directory: {path: /srv/fast, initialize: true}, hosts: [node-1, a.example.com],
			capacity: {overcommitPercent: 150, reserve: 20Gi, warnPercent: 70, criticalPercent: 90, maxVolumes: 10},
			volumes: {provisioning: Thick, format: Subdirectory, onDelete: Archive, wipe: Zero},
			allowedNamespaces: [team-a], state: Inactive, maintenance: Cordon`,
		"what is said to be the default":       `type: directory, directory: {path: /a}, volumes: {wipe: ""}, maintenance: ""`,
		"a reserve of nothing":                 `type: directory, directory: {path: /a}, capacity: {reserve: 0%}`,
		"a reserve of everything":              `type: directory, directory: {path: /a}, capacity: {reserve: 100%}`,
		"a partition":                          `type: partition, partition: {device: /dev/disk/by-partuuid/0f, fsType: xfs, provision: IfEmpty}`,
		"a disk":                               `type: disk, disk: {devices: [/dev/disk/by-id/wwn-0x5000c500a1b2c3d4], whole: true}`,
		"a volume group":                       `type: lvm, lvm: {volumeGroup: vg0, defaults: {redundancy: Mirror, stripes: 2, snapshotSize: 20%}}`,
		"a volume group that is made":          `type: lvm, lvm: {volumeGroup: vg0, provision: IfEmpty, devices: [/dev/disk/by-id/a]}`,
		"a thin pool":                          `type: lvm, lvm: {volumeGroup: vg0, thinPool: {name: thin, size: 80%, metadataSize: 1Gi, chunkSize: 128Ki, autoExtend: {threshold: 70, by: 10, max: 1Ti}}}`,
		"a thin pool and what its volumes are": `type: lvm, lvm: {volumeGroup: vg0, thinPool: {name: thin}}, volumes: {provisioning: Thin, format: Device}`,
	}
	denied = map[string]string{
		"a type that there is not":                  `type: tape`,
		"no type":                                   `directory: {path: /a}`,
		"no settings":                               `type: directory`,
		"the settings of another type":              `type: directory, lvm: {volumeGroup: vg0}`,
		"the settings of two types":                 `type: directory, directory: {path: /a}, lvm: {volumeGroup: vg0}`,
		"no path":                                   `type: directory, directory: {}`,
		"an empty path":                             `type: directory, directory: {path: ""}`,
		"a relative path":                           `type: directory, directory: {path: srv/fast}`,
		"the root directory":                        `type: directory, directory: {path: /}`,
		"the root directory, written twice":         `type: directory, directory: {path: //}`,
		"a path with an empty part":                 `type: directory, directory: {path: /srv//fast}`,
		"a path with a dot":                         `type: directory, directory: {path: /srv/./fast}`,
		"a path that goes up":                       `type: directory, directory: {path: /srv/../etc}`,
		"a path that goes up at its end":            `type: directory, directory: {path: /srv/..}`,
		"a path that is too long":                   `type: directory, directory: {path: /` + strings.Repeat("a", 4096) + `}`,
		"a machine-id that is none":                 `type: directory, directory: {path: /a, adoptFrom: node-1}`,
		"a host that is no name":                    `type: directory, directory: {path: /a}, hosts: [Node_1]`,
		"a namespace that is no name":               `type: directory, directory: {path: /a}, allowedNamespaces: [a.b]`,
		"an overcommitment of nothing":              `type: directory, directory: {path: /a}, capacity: {overcommitPercent: 0}`,
		"an overcommitment of too much":             `type: directory, directory: {path: /a}, capacity: {overcommitPercent: 10001}`,
		"a reserve of more than everything":         `type: directory, directory: {path: /a}, capacity: {reserve: 101%}`,
		"a reserve that is no quantity":             `type: directory, directory: {path: /a}, capacity: {reserve: some}`,
		"a reserve below nothing":                   `type: directory, directory: {path: /a}, capacity: {reserve: -1Gi}`,
		"a warning above critical":                  `type: directory, directory: {path: /a}, capacity: {warnPercent: 90, criticalPercent: 80}`,
		"a warning above the default of critical":   `type: directory, directory: {path: /a}, capacity: {warnPercent: 96}`,
		"critical below the default of the warning": `type: directory, directory: {path: /a}, capacity: {criticalPercent: 79}`,
		"volumes below nothing":                     `type: directory, directory: {path: /a}, capacity: {maxVolumes: -1}`,
		"a provisioning that there is not":          `type: directory, directory: {path: /a}, volumes: {provisioning: Thinner}`,
		"a device on a directory":                   `type: directory, directory: {path: /a}, volumes: {format: Device}`,
		"an end that there is not":                  `type: directory, directory: {path: /a}, volumes: {onDelete: Burn}`,
		"a wipe that there is not":                  `type: directory, directory: {path: /a}, volumes: {wipe: Soap}`,
		"a state that there is not":                 `type: directory, directory: {path: /a}, state: Off`,
		"a maintenance that there is not":           `type: directory, directory: {path: /a}, maintenance: Later`,
		"a field that there is not":                 `type: directory, directory: {path: /a}, color: red`,
		"a numbered device":                         `type: partition, partition: {device: /dev/sda1}`,
		"a numbered NVMe device":                    `type: disk, disk: {devices: [/dev/nvme0n1p1]}`,
		"a device that is not below /dev":           `type: partition, partition: {device: /srv/sda}`,
		"a device that goes up":                     `type: partition, partition: {device: /dev/../etc/passwd}`,
		"a file system to make that is not said":    `type: partition, partition: {device: /dev/disk/by-id/a, provision: IfEmpty}`,
		"a file system that there is not":           `type: partition, partition: {device: /dev/disk/by-id/a, fsType: ntfs}`,
		"no disks":                                  `type: disk, disk: {devices: []}`,
		"a disk twice":                              `type: disk, disk: {devices: [/dev/disk/by-id/a, /dev/disk/by-id/a]}`,
		"thin volumes on a disk":                    `type: disk, disk: {devices: [/dev/disk/by-id/a]}, volumes: {provisioning: Thin}`,
		"images in a volume group":                  `type: lvm, lvm: {volumeGroup: vg0}, volumes: {format: Image}`,
		"thin volumes without a thin pool":          `type: lvm, lvm: {volumeGroup: vg0}, volumes: {provisioning: Thin}`,
		"thick volumes in a thin pool":              `type: lvm, lvm: {volumeGroup: vg0, thinPool: {name: t}}, volumes: {provisioning: Thick}`,
		"mirrors in a thin pool":                    `type: lvm, lvm: {volumeGroup: vg0, thinPool: {name: t}, defaults: {redundancy: Mirror}}`,
		"a name that LVM does not take":             `type: lvm, lvm: {volumeGroup: -vg0}`,
		"a name that means a directory":             `type: lvm, lvm: {volumeGroup: ..}`,
		"a group to make of nothing":                `type: lvm, lvm: {volumeGroup: vg0, provision: IfEmpty}`,
		"a pool of no size":                         `type: lvm, lvm: {volumeGroup: vg0, thinPool: {name: t, size: 0%}}`,
		"a chunk that is no multiple":               `type: lvm, lvm: {volumeGroup: vg0, thinPool: {name: t, chunkSize: 100Ki}}`,
		"a chunk that is too large":                 `type: lvm, lvm: {volumeGroup: vg0, thinPool: {name: t, chunkSize: 2Gi}}`,
		"no metadata":                               `type: lvm, lvm: {volumeGroup: vg0, thinPool: {name: t, metadataSize: "0"}}`,
		"a threshold that is too low":               `type: lvm, lvm: {volumeGroup: vg0, thinPool: {name: t, autoExtend: {threshold: 49}}}`,
		"too many stripes":                          `type: lvm, lvm: {volumeGroup: vg0, defaults: {stripes: 129}}`,
	}
)

func document(name, spec string) string {
	return "{apiVersion: datastore-csi.io/v1alpha1, kind: Datastore, metadata: {name: " + name + "}, spec: {" + spec + "}}"
}

// What a file of documents takes, the API server takes, and the other way round.
func TestSchemaAndValidationAgree(t *testing.T) {
	ready(t)
	empty(t)
	for _, group := range []struct {
		documents map[string]string
		refused   bool
	}{{accepted, false}, {denied, true}} {
		for _, what := range slices.Sorted(maps.Keys(group.documents)) {
			t.Run(what, func(t *testing.T) {
				text := document("agreed", group.documents[what])
				docs, err := v1alpha1.DecodeDatastores(strings.NewReader(text))
				if err != nil || len(docs) != 1 {
					t.Fatalf("%d documents, %v", len(docs), err)
				}
				if (docs[0].Err != nil) != group.refused {
					t.Errorf("a file: refused %t, want %t: %v", !group.refused, group.refused, docs[0].Err)
				}
				err = dryRun(t, text)
				if (err != nil) != group.refused {
					t.Errorf("the API server: refused %t, want %t: %v", !group.refused, group.refused, err)
				}
				if err != nil && refused(err) != "Invalid" && refused(err) != "BadRequest" {
					t.Errorf("the API server failed otherwise: %v", err)
				}
			})
		}
	}
	for _, name := range []string{"a.b", strings.Repeat("a", 64), "A"} {
		if err := dryRun(t, document(name, accepted["a directory"])); refused(err) != "Invalid" {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

// dryRun has the API server judge a datastore, strictly, and forget it.
func dryRun(t *testing.T, text string) error {
	t.Helper()
	return plane.Call(t.Context(), http.MethodPost, groupPath+"datastores?dryRun=All&fieldValidation=Strict", decoded(t, text), nil)
}

func TestADatastoreKeepsItsType(t *testing.T) {
	ready(t)
	empty(t)
	made := map[string]any{}
	if err := plane.Call(t.Context(), http.MethodPost, groupPath+"datastores", decoded(t, document("fast", accepted["a directory"])), &made); err != nil {
		t.Fatal(err)
	}
	made["spec"] = decoded(t, document("fast", accepted["a volume group"]))["spec"]
	err := plane.Call(t.Context(), http.MethodPut, groupPath+"datastores/fast", made, nil)
	if refused(err) != "Invalid" || !strings.Contains(err.Error(), "the type of a datastore stays") {
		t.Errorf("another type: %v", err)
	}
	made["spec"] = decoded(t, document("fast", accepted["every setting"]))["spec"]
	if err := plane.Call(t.Context(), http.MethodPut, groupPath+"datastores/fast", made, nil); err != nil {
		t.Errorf("other settings: %v", err)
	}
}

func TestKubectlAnswersTheFirstQuestion(t *testing.T) {
	ready(t)
	for resource, want := range map[string][]string{
		"datastores":         {"Name", "Type", "State", "Total", "Used", "Provisioned", "Volumes", "Hosts", "Age"},
		"datastorehosts":     {"Name", "Health", "Pools", "Version", "Age"},
		"datastorevolumes":   {"Name", "Datastore", "Host", "Size", "Phase", "Namespace", "Claim", "Age"},
		"datastoresnapshots": {"Name", "Volume", "Datastore", "Host", "Size", "Phase", "Taken", "Age"},
	} {
		var got []string
		for _, c := range tableOf(t, resource).ColumnDefinitions {
			if c.Priority == 0 {
				got = append(got, c.Name)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the columns of %s (-want +got):\n%s", resource, diff)
		}
	}
}

// printed is a table as kubectl prints it.
type printed struct {
	ColumnDefinitions []struct {
		Name     string
		Priority int
	}
	Rows []struct{ Cells []any }
}

// tableOf asks for a table, as kubectl does.
func tableOf(t *testing.T, resource string) printed {
	t.Helper()
	body := raw(t, groupPath+resource, "application/json;as=Table;v=v1;g=meta.k8s.io")
	var out printed
	if err := json.Unmarshal(body, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestNamesCollideWithNothing(t *testing.T) {
	ready(t)
	type names struct {
		Resources []struct {
			Name, SingularName string
			ShortNames         []string
		}
	}
	owner := map[string]string{}
	paths := []string{"/api/v1"}
	var groups struct {
		Groups []struct{ PreferredVersion struct{ GroupVersion string } }
	}
	if err := plane.Call(t.Context(), http.MethodGet, "/apis", nil, &groups); err != nil {
		t.Fatal(err)
	}
	for _, g := range groups.Groups {
		paths = append(paths, "/apis/"+g.PreferredVersion.GroupVersion)
	}
	// Those of the snapshotter, which most clusters have.
	for _, n := range []string{"vs", "vsc", "vscs", "vsclass", "vsclasses", "vgs", "vgsc", "vgscs", "vgsclass"} {
		owner[n] = "snapshot.storage.k8s.io"
	}
	for _, path := range paths {
		var all names
		if err := plane.Call(t.Context(), http.MethodGet, path, nil, &all); err != nil {
			t.Fatal(err)
		}
		for _, r := range all.Resources {
			for _, n := range append(r.ShortNames, r.Name, r.SingularName) {
				if n == "" || strings.Contains(n, "/") {
					continue
				}
				if other, taken := owner[n]; taken && other != path && (strings.HasPrefix(path, "/apis/datastore-csi.io") || strings.HasPrefix(other, "/apis/datastore-csi.io")) {
					t.Errorf("%q is a name in %s and in %s", n, path, other)
				}
				owner[n] = path
			}
		}
	}
	for _, n := range []string{"dstore", "dshost", "dsvol", "dssnap"} {
		if owner[n] != strings.TrimSuffix(groupPath, "/") {
			t.Errorf("%q is a name of %q", n, owner[n])
		}
	}
}
