package storm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

const (
	slots     = 5
	slotBytes = 16 << 10
)

// content is what a volume holds: the seed of what was written to each slot last, "" for one that was never written. A slot is a
// file, or a place on a device.
type content [slots]string

func slotFile(dir string, slot int) string { return filepath.Join(dir, fmt.Sprintf("slot-%d", slot)) }

// put writes a slot of a published volume, over what it holds, and syncs it. A driver may die while it has the file system frozen: then
// this ends when the next one thaws it.
func put(v *harness.Volume, slot int, seed string) error {
	d := harness.Data{Seed: seed, Bytes: slotBytes}
	if v.Block {
		return d.Overwrite(v.Target, int64(slot)*slotBytes)
	}
	return d.Overwrite(slotFile(v.Target, slot), 0)
}

// holds tells whether a published volume has a content.
func holds(v *harness.Volume, want content) error {
	for slot, seed := range want {
		if err := holdsSlot(v, slot, seed); err != nil {
			return fmt.Errorf("slot %d: %w", slot, err)
		}
	}
	if v.Block {
		return nil
	}
	entries, err := os.ReadDir(v.Target)
	for _, e := range entries {
		if e.Name() != "lost+found" && !strings.HasPrefix(e.Name(), "slot-") {
			err = errors.Join(err, fmt.Errorf("nobody wrote %s", e.Name()))
		}
	}
	return err
}

func holdsSlot(v *harness.Volume, slot int, seed string) error {
	path, at := slotFile(v.Target, slot), int64(0)
	if v.Block {
		path, at = v.Target, int64(slot)*slotBytes
	}
	d := harness.Data{Seed: seed, Bytes: slotBytes}
	switch {
	case seed != "" && v.Block:
		return d.CheckDevice(path, at)
	case seed != "":
		return d.CheckFile(path)
	case v.Block:
		return zero(path, at)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s was never written and is there (%w)", path, err)
	}
	return nil
}

// zero tells whether a slot of a device was never written.
func zero(path string, at int64) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	got := make([]byte, slotBytes)
	_, err = file.ReadAt(got, at)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if !bytes.Equal(got, make([]byte, slotBytes)) {
		return fmt.Errorf("%s at byte %d was never written and isn't zero", path, at)
	}
	return nil
}

// contents are what a volume or snapshot may hold; more than one where it is a copy that was taken between two writes.
type contents []content

func (c contents) with(more contents) contents {
	out := slices.Clone(c)
	for _, m := range more {
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	return out
}

func (c contents) written(slot int, seed string) contents {
	var out contents
	for _, one := range c {
		one[slot] = seed
		out = out.with(contents{one})
	}
	return out
}

// read returns what of c a published volume holds.
func (c contents) read(v *harness.Volume) (contents, error) {
	var errs []error
	for _, one := range c {
		err := holds(v, one)
		if err == nil {
			return contents{one}, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("%s holds nothing that it may hold: %w", v.ID, errors.Join(errs...))
}
