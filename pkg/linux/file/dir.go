package file

import (
	"context"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// OpenDir opens a directory for reading ("." is the root). Anything else is fault.Precondition.
func (r *Root) OpenDir(name string) (*os.File, error) {
	if err := checkDir(name); err != nil {
		return nil, err
	}
	f, err := r.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	return f, failed("open directory", r.full(name), err)
}

// SetMode gives an open file or directory exactly those permissions.
func SetMode(ctx context.Context, f *os.File, mode fs.FileMode) error {
	err := step.Do(ctx, "set the mode of "+lastOf(f.Name()), func() error { return f.Chmod(mode.Perm()) })
	return failed("set the mode of", f.Name(), err)
}

// ID returns what the kernel knows the file by.
func (i Info) ID() ID { return ID{Dev: i.Dev, Inode: i.Inode} }
