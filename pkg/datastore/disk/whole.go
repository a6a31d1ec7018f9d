package disk

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

func openWhole(_ context.Context, c datastore.Config) (datastore.Pool, error) {
	return nil, fault.New(fault.Invalid, "spec.disk.whole of %s is not served", c.Datastore.Name)
}
