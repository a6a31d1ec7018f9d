package v1alpha1_test

import (
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// blockDocument is a document of a type with its settings.
func blockDocument(name, kind, settings string, spec ...string) string {
	return strings.Join(append([]string{
		"apiVersion: datastore-csi.io/v1alpha1", "kind: Datastore", "metadata: {name: " + name + "}",
		"spec:", "  type: " + kind, "  " + kind + ": " + settings,
	}, spec...), "\n") + "\n"
}

func TestBlockPoolsAreDecodedWithTheirDefaults(t *testing.T) {
	for name, c := range map[string]struct {
		kind, settings string
		provisioning   v1alpha1.Provisioning
		format         v1alpha1.VolumeFormat
	}{
		"a partition": {"partition", "{device: /dev/disk/by-partuuid/7c1b-01, fsType: xfs, mountOptions: [noatime], provision: IfEmpty}", v1alpha1.Thin, v1alpha1.FormatImage},
		"disks":       {"disk", "{devices: [/dev/disk/by-id/wwn-0x5000c5, /dev/loop7], whole: true}", v1alpha1.Thick, v1alpha1.FormatDevice},
		"a group":     {"lvm", "{volumeGroup: vg0, defaults: {redundancy: Mirror, stripes: 2, snapshotSize: 30%}}", v1alpha1.Thick, v1alpha1.FormatDevice},
		"a thin pool": {
			"lvm", "{volumeGroup: vg0, devices: [/dev/disk/by-id/a], provision: IfEmpty, thinPool: {name: pool, size: 80%, metadataSize: 1Gi, chunkSize: 128Ki, " +
				"autoExtend: {threshold: 70, by: 20, max: 2Ti}}}", v1alpha1.Thin, v1alpha1.FormatDevice,
		},
	} {
		t.Run(name, func(t *testing.T) {
			docs := decode(t, blockDocument("a", c.kind, c.settings))
			if len(docs) != 1 || docs[0].Err != nil {
				t.Fatalf("got %+v", docs)
			}
			if v := docs[0].Datastore.Spec.Volumes; v.Provisioning != c.provisioning || v.Format != c.format {
				t.Errorf("its volumes are %s, %s", v.Provisioning, v.Format)
			}
		})
	}
}

func TestBlockPoolsAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"settings of another type":         {blockDocument("a", "disk", "{devices: [/dev/loop1]}", "  directory: {path: /a}"), "spec.directory: Forbidden"},
		"no settings":                      {strings.Replace(blockDocument("a", "lvm", "{volumeGroup: v}"), "  lvm: {volumeGroup: v}\n", "", 1), "spec.lvm: Required"},
		"a device that the kernel numbers": {blockDocument("a", "disk", "{devices: [/dev/sdb]}"), "may be another device after the next boot"},
		"an NVMe by its number":            {blockDocument("a", "partition", "{device: /dev/nvme0n1p2}"), "may be another device after the next boot"},
		"a device outside /dev":            {blockDocument("a", "disk", "{devices: [/etc/passwd]}"), "below /dev"},
		"a device that goes up":            {blockDocument("a", "disk", "{devices: [/dev/../etc/passwd]}"), "below /dev"},
		"no disks":                         {blockDocument("a", "disk", "{devices: []}"), "spec.disk.devices: Required"},
		"a disk twice":                     {blockDocument("a", "disk", "{devices: [/dev/loop1, /dev/loop1]}"), "spec.disk.devices[1]: Duplicate"},
		"thin partitions":                  {blockDocument("a", "disk", "{devices: [/dev/loop1]}", "  volumes: {provisioning: Thin}"), "provisioning"},
		"images on a volume group":         {blockDocument("a", "lvm", "{volumeGroup: v}", "  volumes: {format: Image}"), "format"},
		"thick volumes in a thin pool":     {blockDocument("a", "lvm", "{volumeGroup: v, thinPool: {name: p}}", "  volumes: {provisioning: Thick}"), "provisioning"},
		"a group's name with a slash":      {blockDocument("a", "lvm", "{volumeGroup: a/b}"), "spec.lvm.volumeGroup"},
		"a group's name like an option":    {blockDocument("a", "lvm", "{volumeGroup: --force}"), "spec.lvm.volumeGroup"},
		"a group made of nothing":          {blockDocument("a", "lvm", "{volumeGroup: v, provision: IfEmpty}"), "spec.lvm.devices: Required"},
		"an odd chunk":                     {blockDocument("a", "lvm", "{volumeGroup: v, thinPool: {name: p, chunkSize: 100Ki}}"), "multiple of 64Ki"},
		"a pool larger than all":           {blockDocument("a", "lvm", "{volumeGroup: v, thinPool: {name: p, size: 120%}}"), "1% to 100%"},
		"a threshold too low":              {blockDocument("a", "lvm", "{volumeGroup: v, thinPool: {name: p, autoExtend: {threshold: 10}}}"), "threshold"},
		"a mirror in a thin pool":          {blockDocument("a", "lvm", "{volumeGroup: v, thinPool: {name: p}, defaults: {redundancy: Mirror}}"), "spec.lvm.defaults: Forbidden"},
		"a file system to make, unnamed":   {blockDocument("a", "partition", "{device: /dev/disk/by-id/a, provision: IfEmpty}"), "spec.partition.fsType: Required"},
		"a provision that is none":         {blockDocument("a", "partition", "{device: /dev/disk/by-id/a, provision: Always}"), `"Always"`},
	} {
		t.Run(name, func(t *testing.T) {
			docs := decode(t, c.text)
			if len(docs) != 1 || docs[0].Err == nil || !strings.Contains(docs[0].Err.Error(), c.says) {
				t.Errorf("got %+v, want an error that says %q", docs, c.says)
			}
		})
	}
}

func TestAThinPoolAndTheRestOfItsGroupAreTwoPlaces(t *testing.T) {
	docs := decode(t, blockDocument("a", "lvm", "{volumeGroup: v}")+"---\n"+blockDocument("b", "lvm", "{volumeGroup: v, thinPool: {name: p}}")+"---\n"+
		blockDocument("c", "lvm", "{volumeGroup: v, thinPool: {name: p}}")+"---\n"+blockDocument("d", "disk", "{devices: [/dev/loop1, /dev/loop2]}")+"---\n"+
		blockDocument("e", "disk", "{devices: [/dev/loop2]}"))
	for i, says := range []string{"", `"v/p"`, `"v/p"`, `"/dev/loop2"`, `"/dev/loop2"`} {
		err := docs[i].Err
		if (err == nil) != (says == "") || (err != nil && !strings.Contains(err.Error(), says)) {
			t.Errorf("document %d: %v, want %q", i+1, err, says)
		}
	}
}
