package recover

import (
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
)

func found(alter ...func(*datastore.Found)) datastore.Found {
	f := datastore.Found{
		Volume: datastore.Volume{
			ID: "v", Name: "v", UID: "11111111", ClusterID: "red", Bytes: 1, Access: v1alpha1.Block, Format: v1alpha1.FormatImage,
			Provisioning: v1alpha1.Thin, Modes: []string{"SINGLE_NODE_WRITER"}, Labels: map[string]string{"datastore-csi.io/pvc.name": "data"},
		},
		State: datastore.FoundWhole, Location: "volumes/v-11111111", Datastore: "fast",
	}
	for _, a := range alter {
		a(&f)
	}
	return f
}

func on(name string, all ...datastore.Found) parts.Look {
	d := &v1alpha1.Datastore{}
	d.Name = name
	return parts.Look{Datastore: d, Found: all}
}

func in(state datastore.FoundState, reasons ...string) func(*datastore.Found) {
	return func(f *datastore.Found) {
		f.State = state
		for _, r := range reasons {
			f.Problems = append(f.Problems, v1alpha1.Problem{Reason: r, Message: "message of " + r})
		}
	}
}

func TestAPlanTakesWhatIsOursAndClear(t *testing.T) {
	snapshot := func(f *datastore.Found) {
		f.Volume.Snapshot, f.Source = true, &datastore.Volume{ID: "source", UID: "22222222"}
	}
	for name, c := range map[string]struct {
		looks   []parts.Look
		records map[string]known
		want    []verdict
		why     string // of the last
	}{
		"nothing":                              {looks: []parts.Look{on("fast")}},
		"a volume":                             {looks: []parts.Look{on("fast", found())}, want: []verdict{restore}},
		"a snapshot of the same name":          {looks: []parts.Look{on("fast", found(), found(snapshot))}, want: []verdict{restore, restore}},
		"a volume that is damaged":             {looks: []parts.Look{on("fast", found(in(datastore.FoundWhole, "DataMissing")))}, want: []verdict{restore}, why: "DataMissing"},
		"a volume that was retained":           {looks: []parts.Look{on("fast", found(in(datastore.FoundRetained)))}, want: []verdict{retained}},
		"a volume that was archived":           {looks: []parts.Look{on("fast", found(in(datastore.FoundArchived)))}, want: []verdict{archived}},
		"a remainder":                          {looks: []parts.Look{on("fast", found(in(datastore.FoundRemainder)))}, want: []verdict{remainder}},
		"a mark that can't be read":            {looks: []parts.Look{on("fast", found(in(datastore.FoundUnclear, "MarkUnreadable")))}, want: []verdict{unclear}, why: "MarkUnreadable"},
		"a mark of another cluster":            {looks: []parts.Look{on("fast", found(in(datastore.FoundUnclear, "ForeignMark")))}, want: []verdict{foreign}, why: "ForeignMark"},
		"a volume of another cluster":          {looks: []parts.Look{on("fast", found(func(f *datastore.Found) { f.Volume.ClusterID = "blue" }))}, want: []verdict{foreign}, why: `"blue"`},
		"a volume of another datastore":        {looks: []parts.Look{on("fast", found(func(f *datastore.Found) { f.Datastore = "slow" }))}, want: []verdict{foreign}, why: `"slow"`},
		"a mark with another's name":           {looks: []parts.Look{on("fast", found(func(f *datastore.Found) { f.Volume.Name = "w" }))}, want: []verdict{unclear}, why: `"w"`},
		"a mark with a name that isn't hashed": {looks: []parts.Look{on("fast", found(func(f *datastore.Found) { f.Volume.Name = "V" }))}, want: []verdict{unclear}, why: "v-"},
		"a mark without a size":                {looks: []parts.Look{on("fast", found(func(f *datastore.Found) { f.Volume.Bytes = 0 }))}, want: []verdict{unclear}, why: "size"},
		"a mark without a UID":                 {looks: []parts.Look{on("fast", found(func(f *datastore.Found) { f.Volume.UID = "" }))}, want: []verdict{unclear}, why: "UID"},
		"a mark with an access of its own":     {looks: []parts.Look{on("fast", found(func(f *datastore.Found) { f.Volume.Access = "?" }))}, want: []verdict{unclear}, why: "access"},
		"a mark with a format of its own":      {looks: []parts.Look{on("fast", found(func(f *datastore.Found) { f.Volume.Format = "?" }))}, want: []verdict{unclear}, why: "format"},
		"a snapshot of nothing":                {looks: []parts.Look{on("fast", found(func(f *datastore.Found) { f.Volume.Snapshot = true }))}, want: []verdict{unclear}, why: "source"},
		"two marks of one volume":              {looks: []parts.Look{on("fast", found()), on("slow", found(func(f *datastore.Found) { f.Datastore = "slow" }))}, want: []verdict{unclear, unclear}, why: "2 marks"},
		"two lives of one name": {
			looks: []parts.Look{on("fast", found(), found(func(f *datastore.Found) { f.Volume.UID, f.Location = "22222222", "volumes/v-22222222" }))},
			want:  []verdict{unclear, unclear}, why: "2 marks",
		},
		"a volume that has its record": {
			looks: []parts.Look{on("fast", found())}, records: map[string]known{"v": {"11111111", "fast", "volumes/v-11111111"}}, want: []verdict{keep},
		},
		"a volume that was just made": {
			looks: []parts.Look{on("fast", found())}, records: map[string]known{"v": {"11111111", "fast", ""}}, want: []verdict{keep},
		},
		"a record of an earlier life": {
			looks: []parts.Look{on("fast", found())}, records: map[string]known{"v": {"22222222", "fast", "volumes/v-22222222"}}, want: []verdict{unclear}, why: "22222222",
		},
		"a record of the same on another datastore": {
			looks: []parts.Look{on("fast", found())}, records: map[string]known{"v": {"11111111", "slow", "volumes/v-11111111"}}, want: []verdict{unclear}, why: "slow",
		},
		"one of two that has its record": {
			looks:   []parts.Look{on("fast", found()), on("slow", found(func(f *datastore.Found) { f.Datastore = "slow" }))},
			records: map[string]known{"v": {"11111111", "fast", "volumes/v-11111111"}}, want: []verdict{keep, unclear}, why: "record",
		},
		"a snapshot's record is no volume's": {
			looks: []parts.Look{on("fast", found())}, records: map[string]known{"snapshot/v": {"22222222", "fast", "snapshots/v-22222222"}}, want: []verdict{restore},
		},
	} {
		t.Run(name, func(t *testing.T) {
			plan := makePlan(c.looks, c.records, "red")
			if len(plan) != len(c.want) {
				t.Fatalf("plan %+v", plan)
			}
			for i, e := range plan {
				if e.verdict != c.want[i] {
					t.Errorf("%s becomes %q (%s), want %q", e.found.Location, e.verdict, e.why, c.want[i])
				}
			}
			if len(plan) > 0 && !strings.Contains(plan[len(plan)-1].why, c.why) {
				t.Errorf("why: %q", plan[len(plan)-1].why)
			}
		})
	}
}

func TestAMarkThatNoRecordCanSayIsUnclear(t *testing.T) {
	mounted := func(fsType, id string) func(*datastore.Found) {
		return func(f *datastore.Found) {
			f.Volume.Access, f.Volume.Filesystem = v1alpha1.Filesystem, &v1alpha1.FilesystemSpec{Type: fsType, UUID: id}
		}
	}
	const id = "8b0a1f0e-0f5e-4d0c-9d55-0123456789ab"
	if lacks := incomplete(found(mounted("xfs", id))); lacks != "" {
		t.Errorf("a good one: %s", lacks)
	}
	for name, c := range map[string]struct {
		alter func(*datastore.Found)
		why   string
	}{
		"provisioning":            {func(f *datastore.Found) { f.Volume.Provisioning = "Weird" }, "provisioning"},
		"quota":                   {func(f *datastore.Found) { f.Volume.Quota = "Weird" }, "quota"},
		"onDelete":                {func(f *datastore.Found) { f.Volume.OnDelete = "Weird" }, "onDelete"},
		"wipe":                    {func(f *datastore.Found) { f.Volume.Wipe = "Weird" }, "wipe"},
		"access mode":             {func(f *datastore.Found) { f.Volume.Modes = []string{"EVIL"} }, "EVIL"},
		"label":                   {func(f *datastore.Found) { f.Volume.Labels = map[string]string{"a b": "c"} }, "a b"},
		"label's value":           {func(f *datastore.Found) { f.Volume.Labels = map[string]string{"a": "c\n"} }, "label"},
		"file system":             {mounted("../x", id), "../x"},
		"file system's UUID":      {mounted("xfs", "-L x"), "-L x"},
		"no file system":          {func(f *datastore.Found) { f.Volume.Access = v1alpha1.Filesystem }, "file system"},
		"file system of raw":      {func(f *datastore.Found) { f.Volume.Filesystem = &v1alpha1.FilesystemSpec{Type: "xfs", UUID: id} }, "don't have"},
		"source":                  {func(f *datastore.Found) { f.Source = &datastore.Volume{ID: "../x", UID: "2"} }, "source"},
		"source without UID":      {func(f *datastore.Found) { f.Source = &datastore.Volume{ID: "x"} }, "UID"},
		"snapshot's source":       {func(f *datastore.Found) { f.Source = &datastore.Volume{ID: "../x", UID: "2", Snapshot: true} }, "source"},
		"snapshot without source": {func(f *datastore.Found) { f.Volume.Snapshot = true }, "source"},
	} {
		t.Run(name, func(t *testing.T) {
			if lacks := incomplete(found(c.alter)); !strings.Contains(lacks, c.why) {
				t.Errorf("%q", lacks)
			}
		})
	}
}

func TestTheHostIsTheOneThatMadeThePools(t *testing.T) {
	look := func(host string) parts.Look { return parts.Look{Host: host} }
	for name, c := range map[string]struct {
		given string
		looks []parts.Look
		want  string
	}{
		"it was given":       {"given", []parts.Look{look("a")}, "given"},
		"all pools name it":  {"", []parts.Look{look("a"), look("a"), look("")}, "a"},
		"no pool names one":  {"", []parts.Look{look("")}, ""},
		"they name several":  {"", []parts.Look{look("a"), look("b")}, ""},
		"there are no pools": {"", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := hostOf(c.given, c.looks)
			if got != c.want || (err == nil) != (c.want != "") || (err != nil && !strings.Contains(err.Error(), "--host")) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestOptionsNameEachFlagThatIsWrong(t *testing.T) {
	good := Options{Datastores: "f", StateDir: "d", MountDir: "m", ClusterID: "c"}
	if err := good.Validate(); err != nil || !strings.HasPrefix(good.StateDir, "/") {
		t.Fatalf("%+v, %v", good, err)
	}
	for flag, alter := range map[string]func(*Options){
		"--datastores":       func(o *Options) { o.Datastores = "" },
		"--state-dir":        func(o *Options) { o.StateDir = "" },
		"--mount-dir":        func(o *Options) { o.MountDir = "" },
		"--cluster-id":       func(o *Options) { o.ClusterID = "" },
		`--cluster-id "a b"`: func(o *Options) { o.ClusterID = "a b" },
		`--host "a/b"`:       func(o *Options) { o.Host = "a/b" },
	} {
		o := good
		alter(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}
