package mount

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// nameMax is the longest component of a path that Linux file systems take (NAME_MAX, limits.h).
const nameMax = 255

// CheckPath tells whether path can be worked on: absolute, clean (filepath.Clean changes nothing),
// without NUL, at most 4095 bytes (PATH_MAX less its NUL) with components of at most 255, and not the
// root directory. The error is fault.Invalid.
func CheckPath(path string) error {
	switch {
	case path == "":
		return fault.New(fault.Invalid, "a path is empty")
	case len(path) >= unix.PathMax:
		return fault.New(fault.Invalid, "path %q... has %d bytes, the kernel takes %d", path[:64], len(path), unix.PathMax-1)
	case strings.ContainsRune(path, 0):
		return fault.New(fault.Invalid, "path %q holds a NUL", path)
	case !filepath.IsAbs(path):
		return fault.New(fault.Invalid, "path %q is not absolute", path)
	case path == "/":
		return fault.New(fault.Invalid, "path / is the root directory, which is never a target")
	case filepath.Clean(path) != path:
		return fault.New(fault.Invalid, "path %q is not clean, write %q", path, filepath.Clean(path))
	}
	for name := range strings.SplitSeq(path[1:], "/") {
		if len(name) > nameMax {
			return fault.New(fault.Invalid, "path %q has a component of %d bytes, file systems take %d", path, len(name), nameMax)
		}
	}
	return nil
}
