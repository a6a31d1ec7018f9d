package rows

import (
	"errors"
	"os"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// What Fill leaves is near to what was asked for, by what the kernel says an ordinary user can write.
func TestAPoolIsFilledAsFarAsAskedFor(t *testing.T) {
	for _, row := range All() {
		t.Run(row.Name(), func(t *testing.T) {
			t.Parallel()
			s := Sized(row, 1<<30).Setup(t)
			left := s.Bytes() * 3 / 100
			empty := s.Fill(t, left)
			free, err := s.Free()
			check(t, err)
			if free > left+(8<<20) || free < left/4 {
				t.Errorf("%d bytes are free, %d were to be left", free, left)
			}
			empty()
			if free, err = settled(s); err != nil || free < s.Bytes()*8/10 {
				t.Errorf("emptied, %d bytes are free (%v)", free, err)
			}
		})
	}
}

// settled is what is free once what was given back is written down: btrfs counts what is committed.
func settled(s Storage) (int64, error) {
	_, err := s.Used()
	free, freeErr := s.Free()
	return free, errors.Join(err, freeErr)
}
