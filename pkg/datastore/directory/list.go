package directory

import (
	"context"

	"github.com/datastore-csi/datastore-csi/pkg/datastore"
)

// List returns nothing.
func (p *pool) List(context.Context) ([]datastore.Found, error) { return nil, nil }
