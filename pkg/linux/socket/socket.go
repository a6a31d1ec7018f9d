// Package socket listens on unix sockets that only their owner can use.
package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

const (
	mode = 0o600
	// maxPathBytes is what sun_path holds, its NUL and our suffix left out (unix(7)).
	maxPathBytes = 107 - len(fresh)
	// fresh ends the name that a socket has until its mode is set.
	fresh = ".new"
)

// Path returns the path of an endpoint in CSI's form, unix:///run/csi.sock.
func Path(endpoint string) (string, error) {
	path, ok := strings.CutPrefix(endpoint, "unix://")
	switch {
	case !ok:
		return "", fault.New(fault.Invalid, "endpoint %q is not of the form unix:///PATH: only unix sockets are served", endpoint)
	case !filepath.IsAbs(path) || filepath.Clean(path) != path:
		return "", fault.New(fault.Invalid, "endpoint %q: %q is not an absolute, clean path", endpoint, path)
	case len(path) > maxPathBytes:
		return "", fault.New(fault.Invalid, "endpoint %q: the path has %d bytes, %d are allowed", endpoint, len(path), maxPathBytes)
	}
	return path, nil
}

// Listen listens on the socket of that path, mode 0600. A socket that is left over from a process which is
// gone is replaced; one that somebody listens on, and anything that is no socket, is fault.Precondition.
// The socket appears with its mode set: nobody else can connect in between. Closing the listener removes
// it.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := replaceable(ctx, path); err != nil {
		return nil, fault.Wrap(err, "listen on", path)
	}
	temporary := path + fresh
	if err := removeStale(ctx, temporary); err != nil {
		return nil, fault.Wrap(err, "listen on", path)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fault.Wrap(err, "listen on", path)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(temporary, mode), os.Rename(temporary, path)); err != nil {
		return nil, fault.Wrap(errors.Join(err, l.Close(), os.Remove(temporary)), "listen on", path)
	}
	made, err := os.Lstat(path)
	if err != nil {
		return nil, fault.Wrap(errors.Join(err, l.Close()), "listen on", path)
	}
	return &listener{Listener: l, path: path, made: made}, nil
}

// removeStale removes what a start that was killed left.
func removeStale(ctx context.Context, temporary string) error {
	if err := replaceable(ctx, temporary); err != nil {
		return fault.Wrap(err, "use", temporary)
	}
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// replaceable tells whether a new socket may take the path.
func replaceable(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return fault.New(fault.Precondition, "there is a %s in its place; remove it or choose another endpoint", kind(info))
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(fault.New(fault.Precondition, "another process listens on it; end that one or choose another endpoint"), conn.Close())
	}
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil
	}
	return fmt.Errorf("look whether somebody listens on it: %w", err)
}

func kind(info os.FileInfo) string {
	if info.IsDir() {
		return "directory"
	}
	return "file of mode " + info.Mode().String()
}

type listener struct {
	net.Listener
	path string
	made os.FileInfo
}

// Close stops listening and removes the socket, unless another one has taken its place.
func (l *listener) Close() error {
	err := l.Listener.Close()
	if now, stat := os.Lstat(l.path); stat == nil && os.SameFile(now, l.made) {
		err = errors.Join(err, os.Remove(l.path))
	}
	return err
}

// Is tells whether a path is a socket.
func Is(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().Type() == os.ModeSocket
}
