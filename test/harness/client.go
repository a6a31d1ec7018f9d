package harness

import (
	"context"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// CallLimit is how long a call may take that was given no deadline of its own.
const CallLimit = time.Minute

// slow is what a call takes that is worth a look when a test failed.
const slow = 5 * time.Second

// Client speaks CSI to a driver's socket. It finds the driver again after a restart. Calls without a deadline get
// CallLimit.
type Client struct {
	csi.IdentityClient
	csi.ControllerClient
	csi.NodeClient

	conn  *grpc.ClientConn
	mu    sync.Mutex
	calls []string
	slow  []string // the calls that took long
}

// Dial gives a client for the socket of that path. Nothing needs to listen there yet.
func Dial(socket string) (*Client, error) {
	c := &Client{}
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(c.call),
		grpc.WithConnectParams(grpc.ConnectParams{
			MinConnectTimeout: 5 * time.Second,
			Backoff:           backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1.5, MaxDelay: 50 * time.Millisecond},
		}))
	if err != nil {
		return nil, err
	}
	c.conn = conn
	c.IdentityClient = csi.NewIdentityClient(conn)
	c.ControllerClient = csi.NewControllerClient(conn)
	c.NodeClient = csi.NewNodeClient(conn)
	return c, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// call bounds a call and remembers it for a report.
func (c *Client) call(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, CallLimit)
		defer cancel()
	}
	begin := time.Now()
	err := invoke(ctx, method, request, reply, conn, options...)
	for retries := 0; slowMachine(err) && retries < slowRetries && ctx.Err() == nil; retries++ {
		err = invoke(ctx, method, request, reply, conn, options...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	line := fmt.Sprintf("%s %-26s %6.1f ms  %v", begin.Format("15:04:05.000"), path.Base(method),
		float64(time.Since(begin).Microseconds())/1000, outcome(err))
	c.calls = append(c.calls, line)
	if time.Since(begin) > slow {
		if named, ok := request.(interface{ GetVolumeId() string }); ok {
			line += " volume " + named.GetVolumeId()
		}
		c.slow = append(c.slow, line)
	}
	return err
}

// slowRetries bounds how often a call is made again because a machine is slow.
const slowRetries = 20

// slowMachine tells that a driver gave storage up that is only slow, which one CPU for all machines of a host makes of any: a
// caller of CSI comes again then.
func slowMachine(err error) bool {
	return InMachine() && status.Code(err) == codes.Unavailable && strings.Contains(status.Convert(err).Message(), "has not answered for")
}

func outcome(err error) string {
	if err == nil {
		return "OK"
	}
	return status.Code(err).String() + ": " + status.Convert(err).Message()
}

// Calls tells the last n calls, one a line, and before them those that took long.
func (c *Client) Calls(n int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := strings.Join(c.calls[max(0, len(c.calls)-n):], "\n")
	if len(c.slow) > 0 {
		text = "those that took long:\n" + strings.Join(c.slow, "\n") + "\nthe last ones:\n" + text
	}
	return text
}

// Ready waits until the driver says that it is ready.
func (c *Client) Ready(ctx context.Context) error {
	var answer *csi.ProbeResponse
	// A connection to a driver that was killed may be found broken only by the call.
	err := Retry(ctx, func(ctx context.Context) (err error) {
		answer, err = c.Probe(ctx, &csi.ProbeRequest{}, grpc.WaitForReady(true))
		return err
	})
	if err != nil {
		return err
	}
	if ready := answer.GetReady(); ready != nil && !ready.GetValue() {
		return fmt.Errorf("the driver says that it is not ready")
	}
	return nil
}

// Retry calls again, as a caller of CSI must, for as long as the answer says that it may help: the work is still
// going on, or the driver is not there at the moment.
func Retry(ctx context.Context, call func(context.Context) error) error {
	for {
		err := call(ctx)
		switch status.Code(err) {
		case codes.Aborted, codes.Unavailable, codes.DeadlineExceeded:
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Listed gives what ListVolumes lists, all pages of it, by ID.
func (c *Client) Listed(ctx context.Context) (map[string]*csi.ListVolumesResponse_Entry, error) {
	all := map[string]*csi.ListVolumesResponse_Entry{}
	for token := ""; ; {
		page, err := c.ListVolumes(ctx, &csi.ListVolumesRequest{StartingToken: token})
		if err != nil {
			return nil, err
		}
		for _, entry := range page.GetEntries() {
			all[entry.GetVolume().GetVolumeId()] = entry
		}
		if token = page.GetNextToken(); token == "" {
			return all, nil
		}
	}
}

// Available gives what GetCapacity says for a datastore, bytes.
func (c *Client) Available(ctx context.Context, datastore string) (int64, error) {
	answer, err := c.GetCapacity(ctx, &csi.GetCapacityRequest{Parameters: map[string]string{"datastore": datastore}})
	return answer.GetAvailableCapacity(), err
}
