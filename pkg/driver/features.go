package driver

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
)

// features are what the registered types can do together: what no type can do is not advertised.
type features struct {
	expand, snapshot, clone bool
	// modify tells that what becomes of a volume's data can be chosen.
	modify bool
	// local tells that volumes of a type are reached by some hosts only.
	local bool
}

func union(types []datastore.Type) features {
	var f features
	for _, t := range types {
		c := t.Capabilities(v1alpha1.DatastoreSpec{Type: t.Name})
		f.expand = f.expand || c.Expand
		f.snapshot = f.snapshot || c.Snapshot
		f.clone = f.clone || c.Clone
		f.modify = f.modify || len(c.OnDelete)+len(c.Wipe) > 0
		f.local = f.local || c.Reach == datastore.ReachHost
	}
	return f
}

// controller lists what the controller service is advertised to do.
func (f features) controller() []csi.ControllerServiceCapability_RPC_Type {
	types := []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
		csi.ControllerServiceCapability_RPC_PUBLISH_READONLY,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES_PUBLISHED_NODES,
		csi.ControllerServiceCapability_RPC_GET_VOLUME,
		csi.ControllerServiceCapability_RPC_GET_VOLUME_HEALTH,
		csi.ControllerServiceCapability_RPC_LIST_VOLUME_HEALTH,
		csi.ControllerServiceCapability_RPC_GET_CAPACITY,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	}
	if f.expand {
		types = append(types, csi.ControllerServiceCapability_RPC_EXPAND_VOLUME)
	}
	if f.snapshot {
		types = append(types, csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
			csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS, csi.ControllerServiceCapability_RPC_GET_SNAPSHOT)
	}
	if f.clone {
		types = append(types, csi.ControllerServiceCapability_RPC_CLONE_VOLUME)
	}
	if f.modify {
		types = append(types, csi.ControllerServiceCapability_RPC_MODIFY_VOLUME)
	}
	return types
}

func (s *controllerServer) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	out := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range s.driver.features.controller() {
		out.Capabilities = append(out.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}},
		})
	}
	return out, nil
}
