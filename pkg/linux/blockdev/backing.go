package blockdev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// removed is what the kernel writes behind the path of a file that has no name any more (proc(5), also in sysfs).
const removed = " (deleted)"

// Backing returns the path of the file that a loop device lies on (loop/backing_file in sysfs), and whether that file
// has been removed. Another device, and a loop device that has none, lies on "".
func Backing(path string) (file string, gone bool, err error) {
	major, minor, err := Number(path)
	if err != nil {
		return "", false, err
	}
	b, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/loop/backing_file", major, minor))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, failure("read the backing file of", path, err)
	}
	file, gone = strings.CutSuffix(strings.TrimSuffix(string(b), "\n"), removed)
	return file, gone, nil
}
