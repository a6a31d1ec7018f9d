package measure

import (
	"context"
	"net/http"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Health answers the kubelet's probes: /healthz as long as the process serves, /readyz once it is ready and while its
// condition holds.
type Health struct {
	ready atomic.Bool
	// While tells whether a ready process can do its work now; nil is always. It is set before Serve.
	While func() error
}

// Ready tells that the process can do its work.
func (h *Health) Ready() { h.ready.Store(true) }

// Serve serves the probes at an address until ctx ends; "" is not at all.
func (h *Health) Serve(ctx context.Context, group *errgroup.Group, address string) error {
	if address == "" {
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		why := ""
		if !h.ready.Load() {
			why = "it is starting"
		} else if h.While != nil {
			if err := h.While(); err != nil {
				why = err.Error()
			}
		}
		if why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
		}
	})
	return Listen(ctx, group, "--health-address", address, mux)
}
