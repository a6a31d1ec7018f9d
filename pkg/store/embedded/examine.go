package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"

	"go.etcd.io/bbolt"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// metaPages stand at the beginning of a bbolt file.
const metaPages = 2

// examine looks at the whole file without writing to it, before bbolt opens it for writing: bbolt itself
// takes the file as good, and a damaged one would crash the process or be built upon. A file that does
// not exist yet is good.
func examine(path string) (err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return openError(path, err)
	case !info.Mode().IsRegular():
		return fault.New(fault.Invalid, "it is no regular file: name a file, or move that away")
	case info.Size() == 0:
		return damaged(errors.New("it is empty"))
	}
	// Pages that are not where they should be make bbolt read past the end of the file, which is a
	// memory fault (SIGBUS, SIGSEGV), or panic.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damaged(fmt.Errorf("its pages are not as they should be: %v", r))
		}
	}()
	file, err := bbolt.Open(path, 0, &bbolt.Options{
		ReadOnly: true, PreLoadFreelist: true, Timeout: lockWait, FreelistType: bbolt.FreelistMapType, NoStatistics: true,
	})
	if err != nil {
		return openError(path, err)
	}
	err = file.View(func(tx *bbolt.Tx) error {
		if size, want := info.Size(), tx.Size(); size < want {
			return damaged(fmt.Errorf("it has %d bytes, but its pages take %d: it was cut off", size, want))
		}
		return examinePages(tx, file.Info().PageSize)
	})
	return errors.Join(err, file.Close())
}

// examinePages looks at the structure of all pages, and reads all that is stored.
func examinePages(tx *bbolt.Tx, pageSize int) error {
	pages := int(tx.Size()) / pageSize
	for id := metaPages; id < pages; id++ {
		page, err := tx.Page(id)
		if err != nil {
			return damaged(err)
		}
		if page.Type == "free" {
			continue
		}
		if page.OverflowCount >= pages-id {
			return damaged(fmt.Errorf("page %d goes on for %d pages, past the last one", id, page.OverflowCount))
		}
		id += page.OverflowCount
	}
	err := tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
		return b.ForEach(func(key, value []byte) error { _ = sum(key) + sum(value); return nil })
	})
	if err != nil {
		return damaged(err)
	}
	for problem := range tx.Check() {
		err = errors.Join(err, problem)
	}
	if err != nil {
		return damaged(err)
	}
	return nil
}

// damaged says what to do with a file whose content cannot be trusted.
func damaged(err error) error {
	return fault.New(fault.DataLoss, "the file is damaged and was left as it is: %w. "+
		"Put back a copy of it; or, if no volume was ever made on this host, remove it", err)
}
