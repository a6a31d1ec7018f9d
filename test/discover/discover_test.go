package discover

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/datastore/partition"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/testbed"
)

// binaryVariable names the driver's binary to the machine.
const binaryVariable = "DATASTORE_CSI_TEST_BINARY"

func TestMain(m *testing.M) {
	if os.Getenv(testbed.GuestVariable) == "" {
		self, err := os.Executable()
		binary := filepath.Join(filepath.Dir(self), "datastore-csi")
		if err := errors.Join(err, harness.Build(binary), os.Setenv(binaryVariable, binary)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		testbed.Inside("-disk", "256M,256M,256M,256M", "-share", filepath.Dir(self)) // never returns here
	}
	os.Exit(m.Run())
}

// found is what the command says, as a program reads it.
type found struct {
	Kind, Path, Device, Holds string
	Bytes, Free               int64
	Types, Why                []string
}

func run(t *testing.T, tool string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", tool, args, err, out)
	}
	return string(out)
}

func discover(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Getenv(binaryVariable), append([]string{"discover"}, args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("discover: %v: %s", err, said.String())
	}
	return string(out)
}

func look(t *testing.T) []found {
	t.Helper()
	var all []found
	if err := json.Unmarshal([]byte(discover(t, "--all", "-o", "json")), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func of(t *testing.T, all []found, kind, path string) found {
	t.Helper()
	for _, f := range all {
		if f.Kind == kind && f.Path == path {
			return f
		}
	}
	t.Fatalf("no %s %s among %+v", kind, path, all)
	return found{}
}

// lvm runs LVM as a machine without udev must.
func lvm(t *testing.T, args ...string) {
	t.Helper()
	const config = `activation { udev_sync=0 udev_rules=0 verify_udev_operations=0 monitoring=0 } global { event_activation=0 use_lvmpolld=0 } ` +
		`devices { obtain_device_list_from_udev=0 external_device_info_source="none" use_devicesfile=0 scan_lvs=0 } backup { backup=0 archive=0 }`
	t.Setenv("DM_DISABLE_UDEV", "1")
	run(t, "lvm", append([]string{args[0], "--config", config}, args[1:]...)...)
}

func TestWhatAMachineHas(t *testing.T) {
	lvm(t, "vgcreate", "data", "/dev/ubda", "/dev/ubdb")
	lvm(t, "lvcreate", "-T", "-L", "128M", "data/pool0")
	lvm(t, "lvcreate", "-L", "32M", "-n", "mine", "data")
	lvm(t, "vgcreate", "packed", "/dev/ubdc")
	lvm(t, "lvcreate", "-l", "100%FREE", "-n", "all", "packed")
	before := map[string]string{}
	disks := []string{"/dev/ubda", "/dev/ubdb", "/dev/ubdc", "/dev/ubdd"}
	for _, d := range disks {
		before[d] = run(t, "sha256sum", d)
	}
	all := look(t)
	if f := of(t, all, "volume group", "data"); !slices.Equal(f.Types, []string{"lvm"}) || f.Bytes < 500<<20 || f.Free > f.Bytes-160<<20 || f.Free < 256<<20 {
		t.Errorf("a volume group: %+v", f)
	}
	if f := of(t, all, "thin pool", "data/pool0"); !slices.Equal(f.Types, []string{"lvm"}) || f.Bytes != 128<<20 || f.Free != f.Bytes {
		t.Errorf("a thin pool: %+v", f)
	}
	if f := of(t, all, "volume group", "packed"); len(f.Types) > 0 || !strings.Contains(strings.Join(f.Why, ";"), "no free space") {
		t.Errorf("a full volume group: %+v", f)
	}
	for device, group := range map[string]string{"/dev/ubda": "data", "/dev/ubdb": "data", "/dev/ubdc": "packed"} {
		if f := of(t, all, "disk", device); len(f.Types) > 0 || !strings.Contains(strings.Join(f.Why, ";"), "part of volume group "+group) {
			t.Errorf("a physical volume: %+v", f)
		}
	}
	// What can be used is documents that the driver reads.
	docs, err := v1alpha1.DecodeDatastores(strings.NewReader(discover(t, "--type", "lvm", "-o", "yaml")))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range docs {
		if d.Err != nil {
			t.Error(d.Err)
			continue
		}
		names = append(names, d.Datastore.Name)
	}
	for _, want := range []string{"data", "data-pool0", "ubdd"} {
		if !slices.Contains(names, want) {
			t.Errorf("documents for %v, not for %s", names, want)
		}
	}
	for _, d := range disks {
		if run(t, "sha256sum", d) != before[d] {
			t.Errorf("%s was changed", d)
		}
	}
	lvm(t, "vgremove", "-ff", "-y", "data", "packed")
	lvm(t, "pvremove", "/dev/ubda", "/dev/ubdb", "/dev/ubdc")
}

// wantNotFormatted opens a datastore of type partition that may make its file system.
func wantNotFormatted(t *testing.T, device string) {
	t.Helper()
	dir := t.TempDir()
	_, err := partition.Type().New(t.Context(), datastore.Config{
		Datastore: &v1alpha1.Datastore{
			ObjectMeta: metav1.ObjectMeta{Name: "fast"},
			Spec: v1alpha1.DatastoreSpec{Type: v1alpha1.TypePartition, Partition: &v1alpha1.PartitionSpec{
				Device: device, FSType: "ext4", Provision: v1alpha1.ProvisionIfEmpty,
			}},
		},
		Claims: &datastore.Claims{}, Tools: datastore.Tools{
			Command: command.New(command.Config{}), Now: time.Now, NewUUID: uuid.NewString,
			MountDir: filepath.Join(dir, "mounts"), StateDir: filepath.Join(dir, "state"),
		},
	})
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "can't read") || !strings.Contains(err.Error(), device) {
		t.Errorf("a datastore on a device that can't be read: %v", err)
	}
	if out, err := exec.CommandContext(t.Context(), "blkid", "-p", device).CombinedOutput(); err == nil {
		t.Errorf("it bears %s", out)
	}
}

// A device that can't be read is not blank: dm-error lies in the middle, where no superblock is.
func TestADeviceThatCantBeReadIsNotBlank(t *testing.T) {
	table := "0 262144 linear /dev/ubdd 0\n262144 131072 error\n393216 131072 linear /dev/ubdd 393216\n" // in sectors
	cmd := exec.CommandContext(t.Context(), "dmsetup", "--noudevsync", "create", "lying")
	cmd.Stdin = strings.NewReader(table)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("dmsetup: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("dmsetup", "--noudevsync", "remove", "lying").CombinedOutput(); err != nil {
			t.Errorf("dmsetup: %v: %s", err, out)
		}
	})
	if f := of(t, look(t), "disk", "/dev/ubdd"); len(f.Types) > 0 || !strings.Contains(strings.Join(f.Why, ";"), "held by dm-") {
		t.Errorf("what device-mapper holds: %+v", f)
	}
	wantNotFormatted(t, "/dev/mapper/lying")
	if f := of(t, look(t), "disk", "/dev/mapper/lying"); len(f.Types) > 0 || f.Holds != "unknown" || !strings.Contains(strings.Join(f.Why, ";"), "can't be read") {
		t.Errorf("what can't be read: %+v", f)
	}
}
