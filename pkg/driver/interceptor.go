package driver

import (
	"context"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// observe writes one line an RPC and counts it.
func (d *Driver) observe(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	method := path.Base(info.FullMethod)
	volume := subject(req)
	log := klog.FromContext(ctx).WithName("rpc")
	began := time.Now()
	resp, err := handle(ctx, req)
	took := time.Since(began)
	code := status.Code(err)
	// Requests are written nowhere: they hold secrets, and mount flags may.
	if err == nil {
		log.Info("Served", "method", method, "volume", volume, "duration", took, "code", code.String())
	} else {
		log.Info("Served", "method", method, "volume", volume, "duration", took, "code", code.String(), "error", status.Convert(err).Message())
	}
	if d.config.Observe != nil {
		d.config.Observe(method, code.String(), took)
	}
	return resp, err
}

// subject is what a request is about: its volume or snapshot, or its name.
func subject(req any) string {
	const longest = 128
	var s string
	switch r := req.(type) {
	case interface{ GetVolumeId() string }:
		s = r.GetVolumeId()
	case interface{ GetSnapshotId() string }:
		s = r.GetSnapshotId()
	case interface{ GetName() string }:
		s = r.GetName()
	}
	if len(s) > longest {
		s = s[:longest] + "…"
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		// Nobody shapes the log by a name.
		return strconv.Quote(s)
	}
	return s
}

// recoverPanic turns a defect into an error of its call: the other volumes' calls go on.
func recoverPanic(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if r := recover(); r != nil {
			klog.FromContext(ctx).Error(nil, "A call panicked", "method", info.FullMethod, "panic", r, "stack", string(debug.Stack()))
			// Not a final code: the caller would forget a volume that may have been made.
			err = status.Errorf(codes.Unavailable, "%s: a defect of the driver, its log has the details", info.FullMethod)
		}
	}()
	return handle(ctx, req)
}

func (d *Driver) hook(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	return handle(step.WithHook(ctx, d.config.Hook), req)
}
