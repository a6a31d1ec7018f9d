package testbed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	folderPrefix = "datastore-vm-"
	// settleTime is how old a machine's folder must be before it can be anybody's leftover: it is made just
	// before it is locked.
	settleTime = time.Minute
)

// makeFolder makes a machine's own folder in parent, and removes those of machines whose processes were
// killed and so could not. The folder belongs to a living process while its lock is held.
func makeFolder(parent string) (string, *os.File, error) {
	if err := removeLeftovers(parent); err != nil {
		return "", nil, err
	}
	folder, err := os.MkdirTemp(parent, folderPrefix)
	if err != nil {
		return "", nil, err
	}
	lock, err := tryLock(filepath.Join(folder, "lock"))
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(folder))
	}
	return folder, lock, nil
}

func removeLeftovers(parent string) error {
	folders, err := filepath.Glob(filepath.Join(parent, folderPrefix+"*"))
	if err != nil {
		return err
	}
	for _, folder := range folders {
		info, err := os.Stat(folder)
		if err != nil || time.Since(info.ModTime()) < settleTime {
			continue // gone, or too young to judge
		}
		lock, err := tryLock(filepath.Join(folder, "lock"))
		if err != nil {
			continue // in use, or another is removing it
		}
		if err := errors.Join(os.RemoveAll(folder), lock.Close()); err != nil {
			return fmt.Errorf("remove the leftover %s: %w", folder, err)
		}
	}
	return nil
}

// tryLock gives the locked file, or [unix.EWOULDBLOCK] at once while another process holds it.
func tryLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
	}
	return file, nil
}
