package driver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// Dial returns a connection to the driver's socket. It connects on first use, and again after the driver
// was restarted, within a fraction of a second rather than gRPC's default of one.
func Dial(socket string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", socket, err)
	}
	return conn, nil
}

// readyWithin bounds the start of a driver: it opens its pools, which are local folders here.
const readyWithin = 30 * time.Second

// ErrEnded is what Ready returns when the driver ended before it was ready.
var ErrEnded = errors.New("the driver ended before it was ready; its log says why")

// Ready waits until the driver behind the socket says that it is ready, at most 30 seconds. It returns
// at once when ended is closed.
func Ready(ctx context.Context, socket string, ended <-chan struct{}) error {
	conn, err := Dial(socket)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing was written that a close could lose
	ctx, cancel := context.WithTimeoutCause(ctx, readyWithin, fmt.Errorf("it took longer than %s", readyWithin))
	defer cancel()
	answers := make(chan error, 1)
	probe, end := context.WithCancel(ctx)
	defer end()
	go func() { answers <- untilReady(probe, csi.NewIdentityClient(conn)) }()
	select {
	case err := <-answers:
		return err
	case <-ended:
		return ErrEnded
	}
}

// untilReady probes until the answer is that the driver is ready.
func untilReady(ctx context.Context, driver csi.IdentityClient) error {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		got, err := driver.Probe(ctx, &csi.ProbeRequest{}, grpc.WaitForReady(true))
		if err == nil && (got.GetReady() == nil || got.GetReady().GetValue()) {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("the driver did not get ready: %w (its last answer: %v, %v)", context.Cause(ctx), got, err)
		}
	}
}
