package embedded

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/file"
)

const (
	// lockWait is how long an opening waits for another process to let go of the file.
	lockWait = time.Second

	fileMode fs.FileMode = 0o600

	// unfinished stands between the file's name and a UID in the name of one that is being made.
	unfinished = ".new-"
)

// place is where the file is.
type place struct {
	root *file.Root
	name string
}

func (p place) path() string { return filepath.Join(p.root.Path(), p.name) }

// open opens the file that is there with bbolt.
//
// The list of free pages is synced with every transaction: measured, that costs nothing next to the
// transaction's two syncs, and with it an opening need not walk the whole file once more.
func (p place) open(readOnly bool) (*bbolt.DB, error) {
	db, err := bbolt.Open(p.path(), fileMode, &bbolt.Options{
		Timeout: lockWait, ReadOnly: readOnly, FreelistType: bbolt.FreelistMapType, NoStatistics: true,
		OpenFile: func(string, int, os.FileMode) (*os.File, error) {
			if readOnly {
				return p.root.Open(p.name)
			}
			return p.root.OpenWrite(p.name)
		},
	})
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, fault.New(fault.Busy, "another datastore-csi holds it%s: end that one first, or give this one a state folder of its own",
			holder(p.path()))
	case errors.Is(err, bbolterrors.ErrInvalid), errors.Is(err, bbolterrors.ErrChecksum), errors.Is(err, bbolterrors.ErrVersionMismatch):
		return nil, damaged(err)
	}
	return nil, err
}

// make makes the file where there is none, under another name first: the name never stands for a file
// that is not whole, so that an empty or short one is known to be damaged.
func (p place) make(ctx context.Context, config Config) error {
	if _, err := p.root.Stat(p.name); !fault.Is(err, fault.NotFound) {
		return err
	}
	if err := p.sweep(ctx); err != nil {
		return err
	}
	draft := place{root: p.root, name: p.name + unfinished + config.NewUID()}
	err := draft.fill(ctx, config)
	if err == nil {
		err = p.root.Rename(ctx, draft.name, p.name)
	}
	if err == nil {
		return nil
	}
	err = errors.Join(err, p.root.Unlink(context.WithoutCancel(ctx), draft.name))
	if fault.Is(err, fault.Exists) {
		return nil // another process was faster; whether the file is ours will be seen
	}
	return err
}

// sweep removes what crashes left of files that were being made. It may take the draft of a process
// that makes the file at this moment, which then fails.
func (p place) sweep(ctx context.Context) error {
	names, err := p.root.ReadDir(".", 0)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, p.name+unfinished) {
			if err := p.root.Unlink(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// fill makes a file with no records in it.
func (p place) fill(ctx context.Context, config Config) error {
	f, err := p.root.Create(ctx, p.name, fileMode)
	if err != nil {
		return err
	}
	db, err := bbolt.Open(p.path(), fileMode, &bbolt.Options{
		Timeout: lockWait, FreelistType: bbolt.FreelistMapType, NoStatistics: true,
		OpenFile: func(string, int, os.FileMode) (*os.File, error) { return f, nil },
	})
	if err != nil {
		return fault.As(fault.Unavailable, err)
	}
	return fault.As(fault.Unavailable, errors.Join(db.Update(newIdentity(config).write), db.Close()))
}
