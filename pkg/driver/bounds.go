package driver

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
)

// maxMapBytes bounds the keys and values of a map (CSI specification, Size Limits).
const maxMapBytes = 4 << 10

// bound refuses requests whose maps are larger than the specification allows, so that no answer and no line of the
// log is. GetCapacity never answers with an error, and repeats nothing of what it is asked.
func bound(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if _, ok := req.(*csi.GetCapacityRequest); ok {
		return handle(ctx, req)
	}
	for name, m := range mapsOf(req) {
		bytes := 0
		for key, value := range m {
			bytes += len(key) + len(value)
		}
		if bytes > maxMapBytes {
			return nil, invalid("%s have %d bytes, %d are allowed", name, bytes, maxMapBytes)
		}
	}
	return handle(ctx, req)
}

// mapsOf are those of a request but its secrets, which are never repeated.
func mapsOf(req any) map[string]map[string]string {
	out := map[string]map[string]string{}
	if r, ok := req.(interface{ GetParameters() map[string]string }); ok {
		out["the parameters"] = r.GetParameters()
	}
	if r, ok := req.(interface{ GetMutableParameters() map[string]string }); ok {
		out["the mutable parameters"] = r.GetMutableParameters()
	}
	if r, ok := req.(interface{ GetVolumeContext() map[string]string }); ok {
		out["the entries of the volume context"] = r.GetVolumeContext()
	}
	if r, ok := req.(interface{ GetPublishContext() map[string]string }); ok {
		out["the entries of the publish context"] = r.GetPublishContext()
	}
	return out
}
