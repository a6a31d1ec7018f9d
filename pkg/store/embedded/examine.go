package embedded

import (
	"errors"
	"fmt"
	"os"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// examine looks at the whole file without writing to it, before bbolt opens it for writing. Bbolt takes
// a file as good but for its meta pages: a damaged one would crash the process (it reads past the end of
// the file, in goroutines of its own too), or be built upon.
func (p place) examine() (err error) {
	info, err := p.root.Stat(p.name)
	if err != nil {
		return err
	}
	if !info.Mode.IsRegular() {
		return fault.New(fault.Precondition, "it is no file: move that away, or name a file")
	}
	if least := int64(metaPages * os.Getpagesize()); info.Bytes < least {
		return damaged(fmt.Errorf("it has %d bytes, less than the %d of its first pages", info.Bytes, least))
	}
	// This takes the lock and looks at the meta pages only. Nobody writes to the file until it is closed.
	db, err := p.open(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	f, err := p.root.Open(p.name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err = p.root.Stat(p.name); err != nil {
		return err
	}
	if err := inspect(f, info.Bytes, int64(db.Info().PageSize)); err != nil {
		return damaged(err)
	}
	return nil
}

// damaged says what to do with a file whose content cannot be trusted.
func damaged(err error) error {
	return fault.New(fault.DataLoss, "the file is damaged and was left as it is: %w. "+
		"Put back a copy of it; or move it away and run `datastore-csi recover`, which makes the records anew of what lies on the datastores", err)
}
