package command

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// find returns the path of a tool. Files that can't be executed are passed over, as execvp does.
func (r *Runner) find(tool string) (string, error) {
	if strings.ContainsRune(tool, '/') {
		if r.executable(tool) {
			return tool, nil
		}
		return "", fault.New(fault.Unavailable, "the tool %s is missing or not executable: install it", tool)
	}
	for _, dir := range filepath.SplitList(r.path) {
		if p := filepath.Join(dir, tool); filepath.IsAbs(dir) && r.executable(p) {
			return p, nil
		}
	}
	return "", fault.New(fault.Unavailable, "the tool %s is missing in %s: install the package that has it on this host "+
		"(or use an image of the driver that carries it)", tool, r.path)
}

// executable tells whether a path is a regular file that somebody may execute.
func (r *Runner) executable(path string) bool {
	st, err := r.stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0
}

// stat says what a tool finds at a path: beneath the root, links that begin with a slash too.
func (r *Runner) stat(path string) (os.FileInfo, error) {
	if r.place.Root == "" {
		return os.Stat(path)
	}
	root, err := unix.Open(r.place.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the tools' root %s: %w", r.place.Root, err)
	}
	defer func() { _ = unix.Close(root) }()
	fd, err := unix.Openat2(root, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { _ = f.Close() }()
	return f.Stat()
}

// baseName is the tool's name as metrics carry it.
func baseName(tool string) string { return filepath.Base(tool) }

// fact is an answer that holds as long as the tool's file is the same.
type fact struct {
	modified time.Time
	size     int64
	out      []byte
}

// Fact runs a tool for an answer that depends on the tool alone (its version, the features it knows),
// and remembers the answer until the tool's file changes. Only Tool and Args of c identify the question.
// Failures are not remembered. Errors are those of Run.
func (r *Runner) Fact(ctx context.Context, c Cmd) ([]byte, error) {
	path, err := r.find(c.Tool)
	if err != nil {
		r.observe(baseName(c.Tool), ResultMissing, 0)
		return nil, err
	}
	st, err := r.stat(path)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "the tool %s can't be examined: %w", path, err)
	}
	key := strings.Join(append([]string{path}, c.Args...), "\x00")
	r.mu.Lock()
	known, ok := r.facts[key]
	r.mu.Unlock()
	if ok && known.modified.Equal(st.ModTime()) && known.size == st.Size() {
		return slices.Clone(known.out), nil
	}
	out, err := r.Run(ctx, c)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.facts[key] = fact{modified: st.ModTime(), size: st.Size(), out: out}
	return slices.Clone(out), nil
}
