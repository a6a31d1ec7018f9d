// Package rows is the table that the conformance suite and the crash matrix run over: one row for each kind
// of storage that a type of datastore can lie on. A new type is a new Row, and a line in All.
package rows

import (
	"testing"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// Row is a kind of storage.
type Row interface {
	// Name is that of the subtests: a type of datastore and what it lies on.
	Name() string
	// Setup makes blank storage that is undone when the test ends.
	Setup(t testing.TB) Storage
}

// Storage is what one datastore lies on, seen from the administrator's side. It knows the layout that the contract
// promises and nothing of the driver.
type Storage interface {
	// Datastore is the document with which the storage is given to a driver.
	Datastore(name string) harness.Datastore
	// Initialized is the same for storage that isn't blank and shall be used all the same.
	Initialized(name string) harness.Datastore
	// Camera shows all of the storage that must look the same after each life.
	Camera() harness.Camera
	// Bytes is the size of the storage, Used what of it is taken.
	Bytes() int64
	Used() (int64, error)
	// CopiesInUse tells that volumes can be copied while they are written to.
	CopiesInUse() bool
	// CopiesTrees tells the same of sub-directories, in use or not.
	CopiesTrees() bool
	// Wipes tells that what is overwritten in a volume is overwritten on the disk.
	Wipes() bool
	// Below is an error unless data can be found, or can't, on the disk that the storage lies on.
	Below(t testing.TB, d harness.Data, there bool) error
	// Volumes are the volumes that lie on the storage, by the names they have there. Archived are those that were kept
	// when they were deleted.
	Volumes() ([]string, error)
	Archived() ([]string, error)
	// TakeFromArchive removes what was kept of the volume of that CSI name; that there is none is an error.
	TakeFromArchive(name string) error
	// Content is the path of the file or device that holds a volume's bytes, and Allocated what of it takes space.
	Content(id string) (string, error)
	Allocated(id string) (int64, error)
	// Instant copies a volume's bytes as they are at one instant, as a power cut leaves them, into a new file.
	Instant(t testing.TB, id, to string)
	// Foreign puts things on the storage that are none of the driver's, and returns the paths that a Camera must see
	// unchanged for ever.
	Foreign(t testing.TB) []string
	// Fill takes space until only so many bytes are left. What Fill took is given back by the function returned.
	Fill(t testing.TB, left int64) (empty func())
	// TakeAway takes the storage from the host, as an administrator does with what nobody uses: what is in use makes
	// the test fail. A directory's mount point stays, empty.
	TakeAway(t testing.TB) (bringBack func())
	// Breakages are the ways in which the storage can break and be mended.
	Breakages() []Breakage
}

// Breakage is a way in which storage breaks.
type Breakage struct {
	Name string
	// Hangs tells that calls into the storage don't fail but hang in the kernel.
	Hangs bool
	// Idle tells that it happens only to storage of which no volume is in use.
	Idle bool
	// Serves tells that volumes that exist can still be staged.
	Serves bool
	// Break breaks the storage and returns how to mend it.
	Break func(t testing.TB) (mend func())
}

// All is the table.
func All() []Row {
	return []Row{
		directory{fs: "ext4"},
		directory{fs: "xfs"},
		directory{fs: "btrfs"},
	}
}

// Filesystems are the file systems that volumes can have, with the least bytes for one in a test.
func Filesystems() map[string]int64 {
	return map[string]int64{"ext4": 32 << 20, "xfs": 300 << 20, "btrfs": 128 << 20}
}
