package file

import (
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

const (
	// maxName is the longest file name that the file systems of Linux take, in bytes (limits.h, NAME_MAX).
	maxName = 255
	// shown is how much of a name that was refused an error repeats.
	shown = 64
)

// CheckName tells whether name may stand for a file beneath a Root: one or more components joined by
// single slashes, none of them "." or "..", each valid UTF-8 of at most 255 bytes without a NUL, all
// shorter than PATH_MAX. What isn't is fault.Invalid.
func CheckName(name string) error {
	why := ""
	switch {
	case name == "":
		why = "it is empty"
	case len(name) >= unix.PathMax:
		why = "it is too long"
	case strings.ContainsRune(name, 0):
		why = "it contains a NUL byte"
	case name == "." || !fs.ValidPath(name):
		why = "it must be relative, in UTF-8, with no empty, . or .. component"
	default:
		for component := range strings.SplitSeq(name, "/") {
			if len(component) > maxName {
				why = "a component of it is longer than 255 bytes"
			}
		}
	}
	if why == "" {
		return nil
	}
	return fault.New(fault.Invalid, "file name %q is refused: %s", clip(name), why)
}

// checkDir is CheckName, but takes "." for the root itself.
func checkDir(name string) error {
	if name == "." {
		return nil
	}
	return CheckName(name)
}

// checkRootPath tells whether a path may become a Root: absolute and clean.
func checkRootPath(p string) error {
	switch {
	case strings.ContainsRune(p, 0):
		return fault.New(fault.Invalid, "directory path %q is refused: it contains a NUL byte", clip(p))
	case len(p) >= unix.PathMax:
		return fault.New(fault.Invalid, "directory path %q is refused: it is too long", clip(p))
	case !filepath.IsAbs(p):
		return fault.New(fault.Invalid, "directory path %q is refused: it must be absolute", clip(p))
	case filepath.Clean(p) != p:
		return fault.New(fault.Invalid, "directory path %q is refused: write it as %q", clip(p), clip(filepath.Clean(p)))
	}
	return nil
}

// temporary is the name under which a file is written before it takes its place.
func temporary(name string) string {
	dir, base := path.Split(name)
	return dir + "." + base + ".tmp"
}

// Temporary tells whether the base name is one that WriteFile uses for what isn't whole yet. A listing passes
// over it; the next WriteFile of the same name replaces it.
func Temporary(base string) bool {
	return strings.HasPrefix(base, ".") && strings.HasSuffix(base, ".tmp")
}

// clip shortens what goes into an error.
func clip(s string) string {
	if len(s) > shown {
		return s[:shown] + "..."
	}
	return s
}
