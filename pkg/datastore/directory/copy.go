package directory

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Snapshot is refused.
func (p *pool) Snapshot(_ context.Context, _, snap datastore.Volume, _ datastore.Progress) (datastore.Made, error) {
	return datastore.Made{}, p.about(noCopies(), "snapshot", snap)
}

func noCopies() error { return fault.New(fault.Invalid, "type directory makes no copies yet") }

// List returns nothing.
func (p *pool) List(context.Context) ([]datastore.Found, error) { return nil, nil }
