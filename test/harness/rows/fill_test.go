package rows

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// What Fill leaves is near to what was asked for, by what the kernel says an ordinary user can write.
func TestAPoolIsFilledAsFarAsAskedFor(t *testing.T) {
	for _, row := range All() {
		t.Run(row.Name(), func(t *testing.T) {
			t.Parallel()
			s := row.Setup(t)
			left := s.Bytes() * 3 / 100
			empty := s.Fill(t, left)
			var fs unix.Statfs_t
			check(t, unix.Statfs(s.Camera().Files[0], &fs))
			if free := int64(fs.Bavail) * fs.Bsize; free > left+(8<<20) {
				t.Errorf("%d bytes are free, %d were to be left", free, left)
			}
			empty()
			check(t, harness.Run("sync", "--file-system", s.Camera().Files[0])) // btrfs counts what is committed
			check(t, unix.Statfs(s.Camera().Files[0], &fs))
			if free := int64(fs.Bavail) * fs.Bsize; free < s.Bytes()*8/10 {
				t.Errorf("emptied, %d bytes are free", free)
			}
		})
	}
}
