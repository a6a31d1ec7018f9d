package testbed

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/datastore-csi/datastore-csi/test/testbed/internal/order"
)

// Command is what a machine runs: all in it ends when this ends.
type Command struct {
	// Path of the program, absolute. The folder it lies in is shared with the machine, unless it is below /usr.
	Path string
	// Args are without the program's name.
	Args []string
	// Dir is the working folder, shared with the machine. Default: "/", not shared.
	Dir string
	// Env holds NAME=VALUE, added to PATH, HOME and the like.
	Env []string
	// Limit is the hard limit: the machine is killed at its end. Default ten minutes.
	Limit time.Duration
	// Stdout and Stderr get what the command writes, as it comes. Nil: it is only kept in the [Run].
	Stdout, Stderr io.Writer
}

// GuestVariable is set for each command in a machine, to the machine's name.
const GuestVariable = "DATASTORE_CSI_TESTBED"

// ownFolders are those that a machine has for itself: sharing the host's would break one or the other.
var ownFolders = []string{"/", "/tmp", "/run", "/dev", "/dev/shm", "/proc", "/sys", "/etc", "/var", "/usr", "/usr/bin", "/usr/sbin"}

// order is what the machine's first process is told to run command.
func (m *Machine) order(command Command) (order.Order, error) {
	if !filepath.IsAbs(command.Path) {
		return order.Order{}, fmt.Errorf("command %q: want an absolute path", command.Path)
	}
	// Links are followed on the host: a link below /tmp is not there in the machine.
	program, err := filepath.EvalSymlinks(command.Path)
	if err != nil {
		return order.Order{}, err
	}
	dir, err := filepath.EvalSymlinks(orDefault(command.Dir, "/"))
	if err != nil {
		return order.Order{}, err
	}
	folders := slices.Clone(m.config.Shares)
	if command.Dir != "" {
		folders = append(folders, dir)
	}
	if !strings.HasPrefix(program, "/usr/") {
		folders = append(folders, filepath.Dir(program))
	}
	shares, err := outermost(folders)
	if err != nil {
		return order.Order{}, err
	}
	return order.Order{
		HostName:  m.config.Name,
		MachineID: MachineID(m.config.Name),
		Modules:   m.config.Modules,
		Shares:    shares,
		Program:   program,
		Argv:      append([]string{command.Path}, command.Args...),
		Dir:       dir,
		Env: append([]string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"HOME=/root", "LANG=C", "PWD=" + dir,
			"DM_DISABLE_UDEV=1",
			GuestVariable + "=" + m.config.Name,
		}, command.Env...),
		HungAfter: m.config.HungAfter,
	}, nil
}

// outermost gives the real paths of folders, without those that lie in another: two mounts of one file of the
// host would each cache it for themselves.
func outermost(folders []string) ([]string, error) {
	var real, outer []string
	for _, folder := range folders {
		path, err := filepath.EvalSymlinks(folder)
		if err == nil && !filepath.IsAbs(path) {
			err = errors.New("want an absolute path")
		}
		if err == nil && slices.Contains(ownFolders, path) {
			err = errors.New("a machine has its own: share a folder in it")
		}
		if err != nil {
			return nil, fmt.Errorf("share the folder %s: %w", folder, err)
		}
		real = append(real, path)
	}
	slices.Sort(real) // a folder comes before those in it
	for _, path := range real {
		if !slices.ContainsFunc(outer, func(o string) bool { return path == o || strings.HasPrefix(path, o+"/") }) {
			outer = append(outer, path)
		}
	}
	return outer, nil
}

func orDefault(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
