package filesystem

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// ErrorCount returns how many errors ext4 has recorded in a file system since it was last checked
// (Documentation/ABI/testing/sysfs-fs-ext4, errors_count), by the path of its device. It must be mounted, else it is
// fault.NotFound.
func ErrorCount(device string) (int64, error) {
	path := fmt.Sprintf("/sys/fs/ext4/%s/errors_count", filepath.Base(device))
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fault.New(fault.NotFound, "no ext4 is mounted from %s", shorten(device))
	}
	if err != nil {
		return 0, fault.New(fault.Unavailable, "can't read the errors of the ext4 on %s: %w", shorten(device), err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fault.New(fault.Internal, "%s holds %q, which is no number", path, b)
	}
	return n, nil
}
