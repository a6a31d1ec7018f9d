package rows

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// Losses of an image.
func (s directoryStorage) Losses() []Loss {
	return []Loss{
		{Name: "it is gone", Gone: true, Do: s.instead(func(testing.TB, string, int64) {})},
		{Name: "another file stands in its place", Do: s.instead(func(t testing.TB, image string, bytes int64) {
			sparse(t, image, bytes)
			check(t, harness.Mkfs("ext4", image))
		})},
		{Name: "a blank file stands in its place", Do: s.instead(sparse)},
		{Name: "it was cut short", Do: s.cutShort},
		{Name: "a folder stands in its place", Do: s.instead(func(t testing.TB, image string, _ int64) {
			check(t, os.Mkdir(image, 0o755))
		})},
		{Name: "it is a device node of another disk", Do: s.instead(func(t testing.TB, image string, _ int64) {
			check(t, unix.Mknod(image, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 0))))
		})},
	}
}

// instead moves a volume's image away and puts something else in its place.
func (s directoryStorage) instead(put func(t testing.TB, image string, bytes int64)) func(testing.TB, string) func() {
	return func(t testing.TB, id string) func() {
		t.Helper()
		image, err := s.image(id)
		check(t, err)
		info, err := os.Stat(image)
		check(t, err)
		check(t, os.Rename(image, image+".true"))
		put(t, image, info.Size())
		return func() {
			t.Helper()
			check(t, os.RemoveAll(image))
			check(t, os.Rename(image+".true", image))
		}
	}
}

func sparse(t testing.TB, path string, bytes int64) {
	t.Helper()
	check(t, os.WriteFile(path, nil, 0o600))
	check(t, os.Truncate(path, bytes))
}

func (s directoryStorage) cutShort(t testing.TB, id string) func() {
	t.Helper()
	image, err := s.image(id)
	check(t, err)
	aside, err := harness.SetAside(t, image)
	check(t, err)
	info, err := os.Stat(image)
	check(t, err)
	check(t, os.Truncate(image, info.Size()/2))
	return func() {
		t.Helper()
		check(t, os.Truncate(image, info.Size()))
		check(t, harness.BringBack(aside, image))
	}
}
