package standalone

import (
	"strings"
	"testing"
)

func TestOptionsNameEachFlagThatIsWrong(t *testing.T) {
	good := Options{Endpoint: "unix:///run/csi.sock", Datastores: "f", StateDir: "d", MountDir: "m", Host: "node-1"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for flag, alter := range map[string]func(*Options){
		"--endpoint":             func(o *Options) { o.Endpoint = "" },
		"--endpoint:":            func(o *Options) { o.Endpoint = "tcp://:1" },
		"--datastores":           func(o *Options) { o.Datastores = "" },
		"--state-dir":            func(o *Options) { o.StateDir = "" },
		"--mount-dir":            func(o *Options) { o.MountDir = "" },
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
