package sanity_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	csisanity "github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/datastore-csi/datastore-csi/cmd/standalone"
	"github.com/datastore-csi/datastore-csi/test/harness"
)

const (
	// suiteVariable is the environment variable that carries a suite to the process that runs it.
	suiteVariable = "DATASTORE_CSI_SANITY_SUITE"

	volumeBytes   = 64 << 20
	expandedBytes = 96 << 20
	attachLimit   = 4

	// endWithin bounds the end of the driver after the last spec.
	endWithin = 2 * time.Minute

	// ginkgoInterrupts is a goroutine that Ginkgo keeps until the process ends.
	ginkgoInterrupts = "github.com/onsi/ginkgo/v2/internal/interrupt_handler.(*InterruptHandler).registerForInterrupts.func2"
)

// suite is one run of csi-sanity, as a test hands it to the process that runs it.
type suite struct {
	// Socket of the driver.
	Socket string
	// Targets and Staging are the folders in which the suite publishes and stages. It makes and removes
	// them itself.
	Targets, Staging string
	// Access is the suite's access type: mount or block.
	Access string
	// Parameters of the suite's StorageClass.
	Parameters map[string]string `json:",omitempty"`
	// Without is a regular expression for specs that are left out, since no volume with those parameters can have what
	// they test; "" is none.
	Without string `json:",omitempty"`
	Seed    int64
	// Report is the file for Ginkgo's report.
	Report string
	// InProcess is the driver to run in the same process; nil where one runs already.
	InProcess *inProcess `json:",omitempty"`
}

// inProcess are the options of a driver in the suite's process.
type inProcess struct{ Datastores, StateDir, MountDir, Host, ClusterID string }

// runSuite runs a suite and returns the exit code of the process.
func runSuite(text string) int {
	var s suite
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		fmt.Fprintln(os.Stderr, "read the suite:", err)
		return 2
	}
	if err := s.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "sanity:", err)
		return 1
	}
	return 0
}

// outcome takes Ginkgo's verdict.
type outcome struct{ failed bool }

func (o *outcome) Fail() { o.failed = true }

// run runs the specs, and then makes sure that the driver holds no volume and no snapshot any more, and ends cleanly.
func (s suite) run(ctx context.Context) error {
	end, err := s.startDriver(ctx)
	if err != nil {
		return err
	}
	config := csisanity.NewTestConfig()
	config.Address = s.Socket
	config.TargetPath, config.StagingPath = s.Targets, s.Staging
	config.TestVolumeAccessType = s.Access
	config.TestVolumeSize, config.TestVolumeExpandSize = volumeBytes, expandedBytes
	config.TestNodeVolumeAttachLimit = true
	config.DialOptions = append(config.DialOptions, grpc.WithUnaryInterceptor(sized))
	config.TestVolumeParameters = s.Parameters
	config.TestVolumeMutableParameters = map[string]string{"onDelete": "delete", "wipe": "none"}

	order, report := ginkgo.GinkgoConfiguration()
	order.RandomizeAllSpecs, order.RandomSeed = true, s.Seed
	if s.Without != "" {
		order.SkipStrings = append(order.SkipStrings, s.Without)
	}
	report.NoColor, report.JSONReport = true, s.Report
	gomega.RegisterFailHandler(ginkgo.Fail)
	specs := csisanity.GinkgoTest(&config)
	var specsResult outcome
	ginkgo.RunSpecs(&specsResult, "csi-sanity", order, report)
	specs.Finalize()

	errs := []error{s.nothingLeft(ctx), end()}
	if specsResult.failed {
		errs = append(errs, errors.New("specs failed; see above"))
	}
	return errors.Join(errs...)
}

// sized measures each answer. csi-test 5.6.0 compares a snapshot's topology with reflect.DeepEqual ("should succeed
// when creating a snapshot with accessibility requirements"), to one that it has sent before; and a message that was
// sent or measured remembers its size, which one that was only received does not.
func sized(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, o ...grpc.CallOption) error {
	err := call(ctx, method, req, reply, conn, o...)
	if m, ok := reply.(proto.Message); ok {
		proto.Size(m)
	}
	return err
}

// nothingLeft makes sure that the driver lists no volume, no snapshot and nothing that is wrong with one.
func (s suite) nothingLeft(ctx context.Context) error {
	client, err := harness.Dial(s.Socket)
	if err != nil {
		return err
	}
	volumes, err := client.Listed(ctx)
	if err == nil && len(volumes) > 0 {
		err = fmt.Errorf("volumes left after the last spec: %v", volumes)
	}
	snapshots, listed := client.ListedSnapshots(ctx)
	if listed == nil && len(snapshots) > 0 {
		listed = fmt.Errorf("snapshots left after the last spec: %v", snapshots)
	}
	return errors.Join(err, listed, client.Close())
}

// startDriver starts the driver in this process, if it is to run here, and waits until it is ready. The
// function that it returns ends it and makes sure that it ended without error and left no goroutine.
func (s suite) startDriver(ctx context.Context) (end func() error, err error) {
	if s.InProcess == nil {
		return func() error { return nil }, nil
	}
	before := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	var result error
	go func() {
		defer close(ended)
		result = standalone.Run(ctx, standalone.Options{
			Endpoint: "unix://" + s.Socket, Datastores: s.InProcess.Datastores, StateDir: s.InProcess.StateDir, MountDir: s.InProcess.MountDir,
			Host: s.InProcess.Host, ClusterID: s.InProcess.ClusterID, MaxVolumesPerNode: attachLimit,
		})
	}()
	end = func() error {
		cancel()
		select {
		case <-ended:
		case <-time.After(endWithin):
			return fmt.Errorf("the driver did not end within %s of being told to", endWithin)
		}
		if result != nil {
			return fmt.Errorf("the driver ended with: %w", result)
		}
		if err := goleak.Find(before, goleak.IgnoreAnyFunction(ginkgoInterrupts)); err != nil {
			return fmt.Errorf("the driver left goroutines: %w", err)
		}
		return nil
	}
	if err := s.ready(ctx, ended); err != nil {
		return nil, errors.Join(err, end())
	}
	return end, nil
}

// ready waits until the driver answers, or has ended.
func (s suite) ready(ctx context.Context, ended <-chan struct{}) error {
	client, err := harness.Dial(s.Socket)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, harness.StartLimit)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- client.Ready(ctx) }()
	select {
	case err = <-answer:
	case <-ended:
		cancel()
		<-answer
		err = errors.New("the driver ended before it was ready")
	}
	return errors.Join(err, client.Close())
}
