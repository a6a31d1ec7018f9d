package driver

import (
	"context"
	"path"
	"runtime/debug"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/protosanitizer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"

	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// verbose is the log level at which requests are written out, their secrets stripped.
const verbose = 5

// observe writes one line an RPC and counts it.
func (d *Driver) observe(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	method := path.Base(info.FullMethod)
	volume := subject(req)
	log := klog.FromContext(ctx).WithName("rpc")
	log.V(verbose).Info("Called", "method", method, "request", protosanitizer.StripSecrets(req))
	began := time.Now()
	resp, err := handle(ctx, req)
	took := time.Since(began)
	code := status.Code(err)
	switch {
	case err == nil && quiet[method]:
		log.V(verbose).Info("Served", "method", method, "duration", took, "code", code.String())
	case err == nil:
		log.Info("Served", "method", method, "volume", volume, "duration", took, "code", code.String())
	default:
		log.Info("Served", "method", method, "volume", volume, "duration", took, "code", code.String(), "error", status.Convert(err).Message())
	}
	if d.config.Observe != nil {
		d.config.Observe(method, code.String(), took)
	}
	return resp, err
}

// quiet are the methods that are asked all the time and change nothing.
var quiet = map[string]bool{
	"Probe": true, "GetPluginInfo": true, "GetPluginCapabilities": true, "ControllerGetCapabilities": true, "NodeGetCapabilities": true,
}

// subject is what a request is about: its volume, or its name.
func subject(req any) string {
	const longest = 128
	var s string
	switch r := req.(type) {
	case interface{ GetVolumeId() string }:
		s = r.GetVolumeId()
	case interface{ GetName() string }:
		s = r.GetName()
	}
	if len(s) > longest {
		s = s[:longest] + "…"
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
