package host_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/host"
)

const (
	idA = "0123456789abcdef0123456789abcdef"
	idB = "fedcba9876543210fedcba9876543210"
)

// root makes a machine of files.
func root(t *testing.T, files map[string]string) *host.Host {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	return host.New(host.Config{Root: dir})
}

func TestMachineID(t *testing.T) {
	const systemd, dbus = "etc/machine-id", "var/lib/dbus/machine-id"
	for name, c := range map[string]struct {
		files map[string]string
		want  string
		words []string
	}{
		"systemd's":                              {map[string]string{systemd: idA + "\n"}, idA, nil},
		"D-Bus's where systemd has none":         {map[string]string{dbus: idA + "\n"}, idA, nil},
		"systemd's comes first":                  {map[string]string{systemd: idA, dbus: idB}, idA, nil},
		"an empty file is passed over":           {map[string]string{systemd: "", dbus: idB}, idB, nil},
		"none":                                   {nil, "", []string{systemd, dbus, "systemd-machine-id-setup", "dbus-uuidgen"}},
		"an image that was not yet booted":       {map[string]string{systemd: "uninitialized\n"}, "", []string{"uninitialized"}},
		"upper case":                             {map[string]string{systemd: strings.ToUpper(idA)}, "", nil},
		"a UUID with dashes":                     {map[string]string{systemd: "01234567-89ab-cdef-0123-456789abcdef"}, "", nil},
		"too short":                              {map[string]string{systemd: idA[:31]}, "", nil},
		"two lines":                              {map[string]string{systemd: idA + "\n" + idB}, "", nil},
		"all zeros, which machine-id(5) forbids": {map[string]string{systemd: strings.Repeat("0", 32)}, "", nil},
		"a large file":                           {map[string]string{systemd: strings.Repeat("a", 1<<16)}, "", []string{"aaa..."}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := root(t, c.files).MachineID()
			if got != c.want || (err == nil) != (c.want != "") {
				t.Fatalf("got %q, %v, want %q", got, err, c.want)
			}
			if err == nil {
				return
			}
			if !fault.Is(err, fault.Precondition) || len(err.Error()) > 1024 {
				t.Errorf("error %v", err)
			}
			for _, w := range c.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q doesn't name %q", err, w)
				}
			}
		})
	}
}

func TestAnUnreadableMachineIDIsNotAMissingOne(t *testing.T) {
	h := root(t, map[string]string{"etc/machine-id/x": "", "var/lib/dbus/machine-id": idB})
	if got, err := h.MachineID(); err == nil || fault.Is(err, fault.Precondition) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestBootIDAndKernelRelease(t *testing.T) {
	const boot, release = "proc/sys/kernel/random/boot_id", "proc/sys/kernel/osrelease"
	h := root(t, map[string]string{boot: "10b4a8e3-9b6e-4a0e-8a6b-7d8f3c1a2b4d\n", release: "6.1.0-44-amd64\n"})
	if got, err := h.BootID(); got != "10b4a8e3-9b6e-4a0e-8a6b-7d8f3c1a2b4d" || err != nil {
		t.Errorf("boot ID %q, %v", got, err)
	}
	if got, err := h.KernelRelease(); got != "6.1.0-44-amd64" || err != nil {
		t.Errorf("release %q, %v", got, err)
	}
	for name, files := range map[string]map[string]string{
		"nothing there": nil, "empty": {boot: "", release: ""}, "nonsense": {boot: "not a UUID", release: "\n"},
	} {
		h := root(t, files)
		if got, err := h.BootID(); err == nil {
			t.Errorf("%s: boot ID %q", name, got)
		}
		if got, err := h.KernelRelease(); err == nil {
			t.Errorf("%s: release %q", name, got)
		}
	}
}

func TestThisMachineHasWhatItSaysItHas(t *testing.T) {
	h := host.New(host.Config{})
	for name, f := range map[string]func() (string, error){"machine ID": h.MachineID, "boot ID": h.BootID, "release": h.KernelRelease} {
		a, err := f()
		if name == "machine ID" && fault.Is(err, fault.Precondition) {
			continue // a minimal image: none is there to be read
		}
		if err != nil || a == "" {
			t.Errorf("%s: %q, %v", name, a, err)
		}
		if b, err := f(); b != a || err != nil {
			t.Errorf("%s: %q, then %q, %v", name, a, b, err)
		}
	}
}

func FuzzMachineID(f *testing.F) {
	for _, s := range []string{idA, idA + "\n", "", "uninitialized", strings.Repeat("0", 32), "\x00", " " + idB + " "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, content string) {
		id, err := root(t, map[string]string{"etc/machine-id": content}).MachineID()
		if err == nil && (len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" || !strings.Contains(content, id)) {
			t.Errorf("%q became %q", content, id)
		}
	})
}
