package datastore

import (
	"slices"
	"sync"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// Claims keeps two datastores of one host off the same place. A place is named by what the kernel knows
// it by (device and inode, a volume group's UUID), never by a path that may have aliases. The zero value
// is ready; all methods may be called concurrently.
type Claims struct {
	mu   sync.Mutex
	held map[string]claim
}

type claim struct {
	place string
	above []string
}

// Take claims a place for a datastore. Above are the places that it lies in. A place that another
// datastore claimed, lies in, or lies above is fault.Precondition, naming the other. A datastore's
// earlier claim is replaced.
func (c *Claims) Take(datastore, place string, above []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, other := range c.held {
		if name == datastore {
			continue
		}
		switch {
		case other.place == place:
			return fault.New(fault.Precondition, "datastore %q is at the same place; give each datastore a place of its own", name)
		case slices.Contains(above, other.place):
			return fault.New(fault.Precondition, "it lies inside datastore %q; datastores must not be nested", name)
		case slices.Contains(other.above, place):
			return fault.New(fault.Precondition, "datastore %q lies inside it; datastores must not be nested", name)
		}
	}
	if c.held == nil {
		c.held = map[string]claim{}
	}
	c.held[datastore] = claim{place: place, above: slices.Clone(above)}
	return nil
}

// Release gives a datastore's place up.
func (c *Claims) Release(datastore string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.held, datastore)
}
