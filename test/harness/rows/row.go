// Package rows is the table that the conformance suite, csi-sanity, the crash matrix and the storm run over: one row for each
// kind of storage that a type of datastore can lie on. A new type is a new Row, and a line in All.
package rows

import (
	"os"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// Row is a kind of storage.
type Row interface {
	// Name is that of the subtests: a type of datastore and what it lies on.
	Name() string
	// Can says what volumes on such storage can be.
	Can() Can
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
	// Mistakes are documents of the type that a driver must refuse to read, all with that name.
	Mistakes(name string) []Mistake
	// Can is that of the row.
	Can() Can
	// Camera shows all of the storage that must look the same after each life.
	Camera() harness.Camera
	// Bytes is the size of the storage, Used what of it is taken, Free what can still be taken.
	Bytes() int64
	Used() (int64, error)
	Free() (int64, error)
	// Below is an error unless data can be found, or can't, on the disk that the storage lies on.
	Below(t testing.TB, d harness.Data, there bool) error
	// Volumes are the volumes that lie on the storage, by the names they have there, which begin with their IDs. Archived
	// are those that were kept when they were deleted.
	Volumes() ([]string, error)
	Archived() ([]string, error)
	// TakeFromArchive removes what was kept of the volume of that CSI name; that there is none is an error. Sweep removes all
	// volumes, kept ones too, as an administrator does once no record knows of them.
	TakeFromArchive(name string) error
	Sweep() error
	// Content shows the bytes of a volume that isn't staged; that there is no such volume is an error.
	Content(id string) (Content, error)
	// Allocated is what of a volume takes space.
	Allocated(id string) (int64, error)
	// Instant copies a published volume's bytes as they are at one instant, as a power cut leaves them, into a new file.
	Instant(t testing.TB, id, to string)
	// Losses are what can happen to the place of a volume that nobody uses, behind the driver's back.
	Losses() []Loss
	// Foreign puts things on the storage that are none of the driver's, some in places that a volume's name would have
	// (see Planted), and returns a camera that must see them unchanged for ever.
	Foreign(t testing.TB) harness.Camera
	// Fill takes space until only so many bytes are left. What Fill took is given back by the function returned.
	Fill(t testing.TB, left int64) (empty func())
	// TakeAway takes the storage from the host, as an administrator does with what nobody uses: what is in use makes
	// the test fail. A directory's mount point stays, empty.
	TakeAway(t testing.TB) (bringBack func())
	// Breakages are the ways in which the storage can break and be mended.
	Breakages() []Breakage
}

// Can says what volumes on a storage can be, as the documentation of its type has it. What one can't be a driver must
// refuse.
type Can struct {
	// Provisioning are the words for how volumes take their space, "thin" and "thick", the default first.
	Provisioning []string
	// Granularity, in bytes: sizes are multiples of it.
	Granularity int64
	// Images tells that a volume is an image file in a folder of its own.
	Images bool
	// Subdirectories tells that a volume can be a sub-directory, CopiesTrees that such a one can be copied, in use or not.
	Subdirectories, CopiesTrees bool
	// Snapshots and Clones tell that there are any.
	Snapshots, Clones bool
	// CopiesInUse tells that volumes can be copied while they are written to. Copiers are words, one of which the refusal must
	// say where they can't, or where there are no copies: what can.
	CopiesInUse bool
	Copiers     []string
	// Shares tells that a copy takes no space before it is written to.
	Shares bool
	// Shared tells that the storage may hold things of others from the beginning: what isn't blank needs no word of the
	// administrator.
	Shared bool
	// Behind tells that a volume grows into the free space right behind it, where another one may lie.
	Behind bool
	// IdleGrowth tells that a volume with snapshots grows only while it is not in use.
	IdleGrowth bool
	// Wipes tells that what is overwritten in a volume is overwritten on the disk, so that "wipe: zero" can be had.
	Wipes bool
}

// Thin tells that volumes take their space as they are written, if they are asked to.
func (c Can) Thin() bool { return c.has("thin") }

// Thick tells that volumes take all their space when they are made, if they are asked to.
func (c Can) Thick() bool { return c.has("thick") }

func (c Can) has(provisioning string) bool {
	for _, p := range c.Provisioning {
		if p == provisioning {
			return true
		}
	}
	return false
}

// Round gives the size of a volume that is asked for with so many bytes.
func (c Can) Round(bytes int64) int64 {
	return (bytes + c.Granularity - 1) / c.Granularity * c.Granularity
}

// Content is a volume's bytes as a file or block device. The volume must not be used by others until Close.
type Content struct {
	Path string
	// Close ends it; the storage then is as before, but for what was written.
	Close func() error
}

// Loss is something that happens to a volume's place.
type Loss struct {
	Name string
	// Gone tells that nothing is left in the place.
	Gone bool
	// Do does it, and returns how to undo it.
	Do func(t testing.TB, id string) (undo func())
}

// Mistake is a document that must be refused, in words that Says is among.
type Mistake struct {
	Name     string
	Document harness.Datastore
	Says     string
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

// All is the table: the rows whose storage the kernel has on which the tests run. Those that need another kernel than most
// machines' run in a machine of the test bed.
func All() []Row {
	if harness.InMachine() {
		return lvmRows()
	}
	all := []Row{
		directory{fs: "ext4"},
		directory{fs: "xfs"},
		directory{fs: "btrfs"},
		disk{sector: 512, bytes: poolBytes},
		partition{fs: "xfs"},
	}
	if os.Getenv(rowsVariable) == "all" {
		all = append(all, partition{fs: "ext4"})
	}
	return all
}

// rowsVariable set to "all" adds the rows that differ from others only in what their packages' tests show.
const rowsVariable = "TEST_ROWS"

// Sized is a row with storage of another size than the usual, where that matters: to a directory it doesn't.
func Sized(r Row, bytes int64) Row {
	if s, ok := r.(interface{ sized(int64) Row }); ok {
		return s.sized(bytes)
	}
	return r
}

// Directory is the row of type directory on ext4, for tests that are about the driver and need any storage.
func Directory() Row { return directory{fs: "ext4"} }

// Planted are the names of volumes in whose place Foreign puts things.
func Planted() []string {
	return []string{
		"pvc-00000000-0000-4000-8000-000000000000", "pvc-11111111-1111-4111-8111-111111111111", "pvc-22222222-2222-4222-8222-222222222222",
	}
}

// Filesystems are the file systems that volumes can have, with the least bytes for one in a test.
func Filesystems() map[string]int64 {
	return map[string]int64{"ext4": 32 << 20, "xfs": 300 << 20, "btrfs": 128 << 20}
}
