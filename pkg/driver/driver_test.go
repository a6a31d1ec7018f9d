package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/stage"
)

func TestEveryKindOfFaultHasItsCode(t *testing.T) {
	for kind, want := range map[fault.Kind]codes.Code{
		fault.Internal: codes.Internal, fault.Invalid: codes.InvalidArgument, fault.NotFound: codes.NotFound,
		fault.Exists: codes.AlreadyExists, fault.Conflict: codes.Aborted, fault.Busy: codes.Aborted,
		fault.Exhausted: codes.ResourceExhausted, fault.OutOfRange: codes.OutOfRange,
		fault.Precondition: codes.FailedPrecondition, fault.Unavailable: codes.Unavailable, fault.DataLoss: codes.DataLoss,
	} {
		err := answer(fault.Wrap(fault.New(kind, "why"), "do", "it"))
		if status.Code(err) != want || status.Convert(err).Message() != "do it: why" {
			t.Errorf("%v: %v", kind, err)
		}
	}
	for kind := fault.Internal; kind <= fault.DataLoss; kind++ {
		if _, ok := codeOf[kind]; !ok {
			t.Errorf("%v has no code", kind)
		}
	}
	for name, c := range map[string]struct {
		err  error
		want codes.Code
	}{
		"success":                         {nil, codes.OK},
		"an unclassified error":           {errors.New("x"), codes.Internal},
		"a deadline":                      {fmt.Errorf("wait: %w", context.DeadlineExceeded), codes.DeadlineExceeded},
		"a deadline in a wrapped error":   {fault.Wrap(context.DeadlineExceeded, "wait", ""), codes.DeadlineExceeded},
		"a cancelled call":                {context.Canceled, codes.Canceled},
		"a classified error of a timeout": {fault.As(fault.Precondition, context.DeadlineExceeded), codes.FailedPrecondition},
	} {
		if got := status.Code(answer(c.err)); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func mounted(mode csi.VolumeCapability_AccessMode_Mode, fs string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fs}},
	}
}

func block(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
	}
}

func TestReadCapabilities(t *testing.T) {
	const writer, reader = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY
	group := mounted(writer, "")
	group.GetMount().VolumeMountGroup = "1000"
	flags := mounted(writer, "")
	flags.GetMount().MountFlags = make([]string, 100)
	for name, c := range map[string]struct {
		in      []*csi.VolumeCapability
		refused bool
	}{
		"one":                   {[]*csi.VolumeCapability{mounted(writer, "xfs")}, false},
		"two modes":             {[]*csi.VolumeCapability{mounted(writer, "xfs"), mounted(reader, "xfs")}, false},
		"none":                  {nil, true},
		"a missing one":         {[]*csi.VolumeCapability{nil}, true},
		"mount and block":       {[]*csi.VolumeCapability{mounted(writer, ""), block(writer)}, true},
		"two file systems":      {[]*csi.VolumeCapability{mounted(writer, "xfs"), mounted(writer, "ext4")}, true},
		"no access type":        {[]*csi.VolumeCapability{{AccessMode: &csi.VolumeCapability_AccessMode{Mode: writer}}}, true},
		"no mode":               {[]*csi.VolumeCapability{{AccessType: &csi.VolumeCapability_Block{}}}, true},
		"a mode from elsewhere": {[]*csi.VolumeCapability{block(99)}, true},
		"a mount group":         {[]*csi.VolumeCapability{group}, true},
		"a hundred mount flags": {[]*csi.VolumeCapability{flags}, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readCapabilities(c.in)
			if fault.Is(err, fault.Invalid) != c.refused {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	got, err := readCapabilities([]*csi.VolumeCapability{block(writer), block(reader), block(writer)})
	if err != nil || strings.Join(got.access.Modes, " ") != "SINGLE_NODE_READER_ONLY SINGLE_NODE_WRITER" || got.access.Type != v1alpha1.Block {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestHostsOfATopology(t *testing.T) {
	ours := &csi.Topology{Segments: map[string]string{v1alpha1.TopologyKey: "n1", "zone": "a"}}
	theirs := &csi.Topology{Segments: map[string]string{"zone": "a"}}
	for name, c := range map[string]struct {
		in   []*csi.Topology
		want string
	}{
		"none is any host":           {nil, "[]"},
		"ours":                       {[]*csi.Topology{ours}, "[n1]"},
		"ours among others":          {[]*csi.Topology{theirs, ours}, "[n1]"},
		"others' only is no host":    {[]*csi.Topology{theirs}, "[]"},
		"an empty one is no host":    {[]*csi.Topology{{}}, "[]"},
		"a missing one is no host":   {[]*csi.Topology{nil}, "[]"},
		"the order stays as it was ": {[]*csi.Topology{ours, {Segments: map[string]string{v1alpha1.TopologyKey: "n0"}}}, "[n1 n0]"},
	} {
		got := hosts(c.in)
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s: %q", name, got)
		}
		if len(c.in) > 0 && len(got) == 0 {
			t.Errorf("%s: a topology that names no host of ours is taken for any host", name)
		}
	}
}

func TestASecondCallAboutAVolumeIsAborted(t *testing.T) {
	f := newInFlight()
	release, err := f.hold("v")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.hold("v"); status.Code(err) != codes.Aborted {
		t.Errorf("got %v", err)
	}
	if _, err := f.hold("w"); err != nil {
		t.Errorf("another volume: %v", err)
	}
	release()
	if _, err := f.hold("v"); err != nil {
		t.Errorf("after the first: %v", err)
	}
}

func TestOneLineAnRPCWithoutSecrets(t *testing.T) {
	const canary = "canary-5f3a"
	var log bytes.Buffer
	ctx := klog.NewContext(t.Context(), textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&log), textlogger.Verbosity(10))))
	var observed []string
	d := &Driver{config: Config{Observe: func(method, code string, _ time.Duration) { observed = append(observed, method+" "+code) }}}
	req := &csi.NodeStageVolumeRequest{VolumeId: "pvc-1", Secrets: map[string]string{"password": canary}}
	_, err := d.observe(ctx, req, &grpc.UnaryServerInfo{FullMethod: "/csi.v1.Node/NodeStageVolume"},
		func(context.Context, any) (any, error) {
			return nil, status.Error(codes.Unavailable, "no")
		})
	if status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	if strings.Contains(log.String(), canary) {
		t.Errorf("the log has the secret: %s", log.String())
	}
	for _, want := range []string{`method="NodeStageVolume"`, `volume="pvc-1"`, `code="Unavailable"`, "duration="} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s: %s", want, log.String())
		}
	}
	if len(observed) != 1 || observed[0] != "NodeStageVolume Unavailable" {
		t.Errorf("observed %q", observed)
	}
}

func TestAPanicEndsItsCallOnly(t *testing.T) {
	_, err := recoverPanic(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/csi.v1.Node/X"}, func(context.Context, any) (any, error) { panic("boom") })
	if status.Code(err) != codes.Unavailable || strings.Contains(err.Error(), "boom") {
		t.Errorf("got %v", err)
	}
}

func TestWhatNoTypeCanDoIsNotAdvertised(t *testing.T) {
	types := func(c datastore.Capabilities) []datastore.Type {
		return []datastore.Type{{Name: "t", Capabilities: func(v1alpha1.DatastoreSpec) datastore.Capabilities { return c }}}
	}
	for name, c := range map[string]struct {
		capabilities datastore.Capabilities
		expand       bool
	}{
		"with growth":    {datastore.Capabilities{Expand: true, Reach: datastore.ReachHost}, true},
		"without growth": {datastore.Capabilities{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := &Driver{features: union(types(c.capabilities))}
			controller, err := (&controllerServer{driver: d}).ControllerGetCapabilities(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			node, err := (&nodeServer{driver: d}).NodeGetCapabilities(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			plugin, err := (&identity{driver: d}).GetPluginCapabilities(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for what, has := range map[string]bool{
				"controller": strings.Contains(controller.String(), "EXPAND_VOLUME"), "node": strings.Contains(node.String(), "EXPAND_VOLUME"),
				"plugin": strings.Contains(plugin.String(), "ONLINE"),
			} {
				if has != c.expand {
					t.Errorf("%s advertises growth: %t", what, has)
				}
			}
		})
	}
}

// hanging is a Stager whose Stats never answer.
type hanging struct {
	Stager
	entered, leave chan struct{}
}

func (h *hanging) Stats(context.Context, string, string) (stage.Stats, error) {
	close(h.entered)
	<-h.leave
	return stage.Stats{}, nil
}

func TestServeEndsThoughACallHangs(t *testing.T) {
	h := &hanging{entered: make(chan struct{}), leave: make(chan struct{})}
	defer close(h.leave)
	d := New(Config{Stager: h})
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Serve(ctx, l, 50*time.Millisecond) }()
	conn, err := grpc.NewClient("unix://"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	called := make(chan error, 1)
	go func() {
		_, err := csi.NewNodeClient(conn).NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: "v", VolumePath: "/p"})
		called <- err
	}()
	<-h.entered
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Serve waits for a call that hangs")
	}
	if err := <-called; err == nil {
		t.Error("the call was answered")
	}
}
