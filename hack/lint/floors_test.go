package lint_test

import (
	"fmt"
	"maps"
	"slices"
)

// packages are those that a sample may import.
var packages = []string{
	"pkg/fault", "pkg/step", "pkg/api/v1alpha1", "pkg/linux/command", "pkg/linux/file", "pkg/linux/filesystem",
	"pkg/store", "pkg/store/embedded", "pkg/store/storetest", "pkg/datastore", "pkg/datastore/directory",
	"pkg/stage", "pkg/agent", "pkg/controller", "pkg/cluster", "pkg/driver", "cmd/datastore-csi/role", "test/testbed",
}

// floors says which of the packages each floor may import: the plan of the house, written down a second
// time and apart from the linter's rows.
var floors = map[string][]string{
	"pkg/fault":             {},
	"pkg/step":              {},
	"pkg/api/v1alpha1":      {"pkg/fault", "pkg/api/v1alpha1"},
	"pkg/linux/mount":       {"pkg/fault", "pkg/step", "pkg/linux/command", "pkg/linux/file", "pkg/linux/filesystem"},
	"pkg/store":             {"pkg/fault", "pkg/step", "pkg/api/v1alpha1", "pkg/linux/file", "pkg/store", "pkg/store/embedded", "pkg/store/storetest"},
	"pkg/datastore":         {"pkg/fault", "pkg/step", "pkg/api/v1alpha1", "pkg/linux/command", "pkg/linux/file", "pkg/linux/filesystem", "pkg/datastore", "pkg/datastore/directory"},
	"pkg/stage":             {"pkg/fault", "pkg/step", "pkg/api/v1alpha1", "pkg/linux/command", "pkg/linux/file", "pkg/linux/filesystem", "pkg/store", "pkg/datastore", "pkg/stage"},
	"pkg/agent":             {"pkg/fault", "pkg/step", "pkg/api/v1alpha1", "pkg/linux/command", "pkg/linux/file", "pkg/linux/filesystem", "pkg/store", "pkg/datastore", "pkg/agent"},
	"pkg/controller":        {"pkg/fault", "pkg/step", "pkg/api/v1alpha1", "pkg/linux/filesystem", "pkg/store", "pkg/datastore", "pkg/controller"},
	"pkg/cluster":           {"pkg/fault", "pkg/api/v1alpha1", "pkg/store", "pkg/cluster"},
	"pkg/driver":            {"pkg/fault", "pkg/step", "pkg/api/v1alpha1", "pkg/datastore", "pkg/stage", "pkg/controller", "pkg/driver"},
	"pkg/newcomer":          {},
	"cmd/datastore-csi":     packages[:len(packages)-1],
	"test/conformance/life": packages,
}

// byName are the packages that only cmd and tests know; tests of the floors above may wire them.
var byName = []string{"pkg/store/embedded", "pkg/store/storetest", "pkg/datastore/directory"}

// floorSamples has each floor import each package.
func floorSamples() []sample {
	var samples []sample
	for _, from := range slices.Sorted(maps.Keys(floors)) {
		for _, to := range packages {
			s := sample{
				dir:  from,
				src:  fmt.Sprintf("import x %q\n\nvar _ = x.Name\n", module+"/"+to),
				name: fmt.Sprintf("%s may import %s", from, to),
			}
			if !slices.Contains(floors[from], to) {
				s.name = fmt.Sprintf("%s may not import %s", from, to)
				s.want = "depguard: import '" + module + "/" + to + "' is not allowed"
			}
			samples = append(samples, s)
		}
	}
	for _, from := range []string{"pkg/stage", "pkg/agent", "pkg/controller"} {
		for _, to := range byName {
			samples = append(samples, sample{
				name: fmt.Sprintf("a test of %s may import %s", from, to),
				dir:  from, file: "x_test.go",
				src: fmt.Sprintf("import x %q\n\nvar _ = x.Name\n", module+"/"+to),
			})
		}
	}
	for _, from := range []string{"pkg/fault", "pkg/linux/mount", "pkg/agent", "pkg/driver"} {
		samples = append(samples, sample{
			name: fmt.Sprintf("a test of %s may not import test", from),
			dir:  from, file: "x_test.go",
			src:  fmt.Sprintf("import x %q\n\nvar _ = x.Name\n", module+"/test/testbed"),
			want: "depguard: is not allowed",
		})
	}
	return append(samples, librarySamples()...)
}

// librarySamples has floors import what others have written.
func librarySamples() []sample {
	const (
		grpc    = "import \"google.golang.org/grpc\"\n\nvar _ grpc.ServerOption\n"
		codes   = "import \"google.golang.org/grpc/codes\"\n\nvar _ codes.Code\n"
		csi     = "import \"github.com/container-storage-interface/spec/lib/go/csi\"\n\nvar _ *csi.Volume\n"
		bolt    = "import \"go.etcd.io/bbolt\"\n\nvar _ *bbolt.DB\n"
		mount   = "import \"k8s.io/mount-utils\"\n\nvar _ mount.Interface\n"
		meta    = "import metav1 \"k8s.io/apimachinery/pkg/apis/meta/v1\"\n\nvar _ metav1.Time\n"
		process = "import \"os/exec\"\n\nvar _ *exec.Cmd\n"
		plain   = "import \"log\"\n\nvar _ *log.Logger\n"
		klog    = "import \"k8s.io/klog/v2\"\n\nvar _ klog.Level\n"
	)
	may := func(dir, what, src string) sample {
		return sample{name: dir + " may import " + what, dir: dir, src: src}
	}
	mayNot := func(dir, what, src string) sample {
		return sample{name: dir + " may not import " + what, dir: dir, src: src, want: "depguard: is not allowed"}
	}
	return []sample{
		may("pkg/driver", "gRPC", grpc), may("cmd/datastore-csi", "gRPC", grpc), may("test/sanity", "gRPC", grpc),
		mayNot("pkg/controller", "gRPC", grpc), mayNot("pkg/fault", "gRPC", codes), mayNot("pkg/agent", "gRPC", codes),
		may("pkg/driver", "CSI", csi), may("test/sanity", "CSI", csi),
		mayNot("pkg/controller", "CSI", csi), mayNot("pkg/stage", "CSI", csi), mayNot("pkg/datastore", "CSI", csi),
		may("pkg/store/embedded", "bbolt", bolt), mayNot("pkg/store", "bbolt", bolt), mayNot("pkg/agent", "bbolt", bolt),
		may("pkg/linux/mount", "mount-utils", mount), mayNot("pkg/stage", "mount-utils", mount),
		may("pkg/api/v1alpha1", "apimachinery", meta), mayNot("pkg/linux/mount", "apimachinery", meta), mayNot("pkg/fault", "apimachinery", meta),
		may("pkg/linux/command", "os/exec", process), mayNot("pkg/linux/loop", "os/exec", process), mayNot("cmd/datastore-csi", "os/exec", process),
		mayNot("pkg/agent", "the unstructured log", plain), may("pkg/agent", "klog", klog), mayNot("pkg/step", "klog", klog),
	}
}
