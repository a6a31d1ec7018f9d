package standalone

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
	"github.com/datastore-csi/datastore-csi/pkg/linux/host"
)

func TestOptionsNameEachFlagThatIsWrong(t *testing.T) {
	good := Options{Endpoint: "unix:///run/csi.sock", Datastores: "f", StateDir: "d", Host: "node-1"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for flag, alter := range map[string]func(*Options){
		"--endpoint":             func(o *Options) { o.Endpoint = "" },
		"--endpoint:":            func(o *Options) { o.Endpoint = "tcp://:1" },
		"--datastores":           func(o *Options) { o.Datastores = "" },
		"--state-dir":            func(o *Options) { o.StateDir = "" },
		"--host":                 func(o *Options) { o.Host = "" },
		`--host "a/b"`:           func(o *Options) { o.Host = "a/b" },
		`--cluster-id "a b"`:     func(o *Options) { o.ClusterID = "a b" },
		"--max-volumes-per-node": func(o *Options) { o.MaxVolumesPerNode = -1 },
		"--metrics-address":      func(o *Options) { o.MetricsAddress = "here" },
	} {
		o := good
		alter(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
	if err := (&Options{}).Validate(); err == nil || strings.Count(err.Error(), "missing") != 4 {
		t.Errorf("not all that is missing is named: %v", err)
	}
}

func TestAMachineWithoutIDKeepsOneInItsState(t *testing.T) {
	top := t.TempDir()
	proc := filepath.Join(top, "proc/sys/kernel/random")
	if err := os.MkdirAll(proc, 0o700); err != nil {
		t.Fatal(err)
	}
	const boot = "8b0a1f0e-0f5e-4d0c-9d55-0123456789ab"
	if err := os.WriteFile(filepath.Join(proc, "boot_id"), []byte(boot+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	state, err := file.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	h := host.New(host.Config{Root: top})
	first, err := identify(t.Context(), h, state)
	if err != nil || len(first.id) != 32 || first.bootID != boot {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, err := identify(t.Context(), h, state); err != nil || again != first {
		t.Errorf("the next start has %+v, %v", again, err)
	}
	etc := filepath.Join(top, "etc")
	if err := os.Mkdir(etc, 0o700); err != nil {
		t.Fatal(err)
	}
	const own = "0123456789abcdef0123456789abcdef"
	if err := os.WriteFile(filepath.Join(etc, "machine-id"), []byte(own+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if now, err := identify(t.Context(), h, state); err != nil || now != first {
		t.Errorf("a machine that got an ID later: %+v, %v; its pools are marked with %s", now, err, first.id)
	}
	other, err := file.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if now, err := identify(t.Context(), h, other); err != nil || now.id != own {
		t.Errorf("a machine with an ID of its own: %+v, %v", now, err)
	}
}
