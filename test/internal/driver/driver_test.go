package driver_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/datastore-csi/datastore-csi/test/internal/driver"
)

// config returns a configuration whose binary is a shell script.
func config(t *testing.T, script string) driver.Config {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "fake")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return driver.Config{Binary: binary, Socket: filepath.Join(dir, "csi.sock"), Log: filepath.Join(dir, "log"), Host: "h"}
}

func TestADriverThatEndsAtOnceIsNotWaitedFor(t *testing.T) {
	p, err := driver.Start(config(t, "echo no such datastore; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	if err := driver.Ready(t.Context(), filepath.Join(t.TempDir(), "none"), p.Done()); !errors.Is(err, driver.ErrEnded) {
		t.Errorf("Ready returned %v; want ErrEnded", err)
	}
	if got := p.Tail(1); got != "no such datastore" {
		t.Errorf("the log ends with %q", got)
	}
}

func TestStopTellsHowTheDriverEnded(t *testing.T) {
	for _, row := range []struct {
		name, script, want string
	}{
		{"a clean end is no error", `trap "exit 0" TERM; echo up; while :; do sleep 0.01; done`, ""},
		{"an exit code is an error", `trap "exit 7" TERM; echo up; while :; do sleep 0.01; done`, "exit status 7"},
		{"one that doesn't end is killed", `trap "" TERM; echo up; while :; do sleep 0.01; done`, "did not end on SIGTERM"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p, err := driver.Start(config(t, row.script))
			if err != nil {
				t.Fatal(err)
			}
			for p.Tail(1) != "up" {
				select {
				case <-p.Done():
					t.Fatal("ended early")
				default:
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			err = p.Stop(ctx)
			if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("Stop returned %v; want %q", err, row.want)
			}
			<-p.Done()
		})
	}
}

// slow answers that it is not ready until it was asked three times.
type slow struct {
	csi.UnimplementedIdentityServer
	asked int
}

func (s *slow) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	s.asked++
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(s.asked > 3)}, nil
}

func TestReadyWaitsForTheDriversWord(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "csi.sock")
	server, fake := grpc.NewServer(), &slow{}
	csi.RegisterIdentityServer(server, fake)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	if err := driver.Ready(t.Context(), socket, nil); err != nil {
		t.Error(err)
	}
	server.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if fake.asked != 4 {
		t.Errorf("probed %d times; want 4", fake.asked)
	}
}
