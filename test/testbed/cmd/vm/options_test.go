package main

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/test/testbed"
)

func TestOptionsComeFromTheCommandLineAndTheEnvironment(t *testing.T) {
	environ := []string{"VM_MODULE=nfsd", "VM_MEMORY=512M", "VM_HUNG=5m", "DATASTORE_CSI_A=1", "A=2", "B=3"}
	args := strings.Fields("-module loop -memory 2G -share /srv -disk 1G -env A -env C=4 -env ABSENT -time 1m -cpu 1 prog -test.v x")
	got, err := parse(args, environ)
	if err != nil {
		t.Fatal(err)
	}
	cpu := 1
	want := options{
		config: testbed.Config{
			Disks: []testbed.Disk{{Size: 1 << 30}}, Memory: 2 << 30, Modules: []string{"nfsd", "loop"},
			Shares: []string{"/srv"}, CPU: &cpu, HungAfter: 5 * time.Minute,
		},
		command: testbed.Command{
			Path: "prog", Args: []string{"-test.v", "x"}, Env: []string{"DATASTORE_CSI_A=1", "A=2", "C=4"}, Limit: time.Minute,
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
}

func TestMachineHasTwoDisksUnlessToldOtherwise(t *testing.T) {
	for text, want := range map[string]int{"prog": 2, "-disk none prog": 0, "-disk 1G prog": 1, "-disk 1G,2G -disk /a prog": 3} {
		got, err := parse(strings.Fields(text), nil)
		if err != nil || len(got.config.Disks) != want {
			t.Errorf("%q gave %+v, %v, want %d disks", text, got.config.Disks, err, want)
		}
	}
}

func TestTimeLimitIsALittleOverTheTestsOwn(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"x.test -test.v -test.timeout=2m0s": 2*time.Minute + testGrace,
		"x.test -test.timeout=0s":           0,
		"x.test":                            0,
		"-time 3s x.test -test.timeout=2m":  3 * time.Second,
	} {
		got, err := parse(strings.Fields(text), nil)
		if err != nil || got.command.Limit != want {
			t.Errorf("%q gave %s, %v, want %s", text, got.command.Limit, err, want)
		}
	}
}

func TestWrongOptionsAreToldWithTheirNames(t *testing.T) {
	for name, test := range map[string]struct {
		args, environ, want string
	}{
		"no program":                 {"", "", "name the program"},
		"an option that isn't there": {"-disks 4G prog", "", "-disks"},
		"a wrong size":               {"-memory 4X prog", "", "-memory"},
		"a call for help":            {"-disk 4G -help", "", "-memory size"},
		"a wrong disk":               {"-disk 4X prog", "", `"4X"`},
		"a wrong variable":           {"prog", "VM_TIME=soon", "VM_TIME=soon"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(strings.Fields(test.args), strings.Fields(test.environ))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
		})
	}
}
