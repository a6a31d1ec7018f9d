package harness

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Slice is a disk for one test in a machine of the test bed: a part of MachineDisk that was never used before, as a device of
// device-mapper, which can hang, fail and vanish.
type Slice struct {
	Name, Path string
	Bytes      int64
	first      int64 // sector on MachineDisk
}

const sector = 512

// NewSlice makes a disk that reads zeroes. It is taken away when the test ends; what lies on it must be so before.
func NewSlice(t testing.TB, bytes int64) *Slice {
	t.Helper()
	first, err := takeSectors(bytes / sector)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("slice-%d", first)
	s := &Slice{Name: name, Path: "/dev/mapper/" + name, Bytes: bytes, first: first}
	if err := s.Attach(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if all, err := MappedDevices(); err != nil || all[s.Name].Name == "" {
			return // the test took it away
		}
		if err := s.Detach(); err != nil {
			t.Errorf("take the disk away: %v", err)
		}
	})
	return s
}

// takeSectors gives the first of so many sectors of MachineDisk that nobody else gets. How many were given is kept in a file of the
// sandbox.
func takeSectors(n int64) (first int64, err error) {
	f, err := os.OpenFile(filepath.Join(os.Getenv(baseVariable), "slices"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }() // and unlocks it
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return 0, err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return 0, err
	}
	if len(text) > 0 {
		if first, err = strconv.ParseInt(string(text), 10, 64); err != nil {
			return 0, err
		}
	}
	disk, err := DeviceBytes(MachineDisk)
	if err != nil {
		return 0, err
	}
	if (first+n)*sector > disk {
		return 0, fmt.Errorf("%s with its %d bytes is used up", MachineDisk, disk)
	}
	_, err = f.WriteAt([]byte(strconv.FormatInt(first+n, 10)), 0)
	return first, err
}

func (s *Slice) table() string {
	return fmt.Sprintf("0 %d linear %s %d", s.Bytes/sector, MachineDisk, s.first)
}

// Attach brings a disk that was detached back.
func (s *Slice) Attach() error { return DMSetup("create", s.Name, "--table", s.table()) }

// Detach takes a disk away that nobody uses.
func (s *Slice) Detach() error { return DMSetup("remove", "--retry", s.Name) }

// Hang lets all reading and writing hang until Recover.
func (s *Slice) Hang() error { return DMSetup("suspend", "--noflush", "--nolockfs", s.Name) }

// Fail lets all reading and writing fail until Recover.
func (s *Slice) Fail() error { return s.Load(fmt.Sprintf("0 %d error", s.Bytes/sector)) }

// FailAt lets reading and writing fail in a part of the disk until Recover.
func (s *Slice) FailAt(offset, bytes int64) error {
	a, b, end := offset/sector, (offset+bytes)/sector, s.Bytes/sector
	var lines []string
	if a > 0 {
		lines = append(lines, fmt.Sprintf("0 %d linear %s %d", a, MachineDisk, s.first))
	}
	lines = append(lines, fmt.Sprintf("%d %d error", a, b-a))
	if b < end {
		lines = append(lines, fmt.Sprintf("%d %d linear %s %d", b, end-b, MachineDisk, s.first+b))
	}
	return s.Load(strings.Join(lines, "\n"))
}

// Flaky lets the disk work for some seconds and then fail all writing for others, in turns, until Recover: dm-flakey. What is
// dropped is dropped in silence.
func (s *Slice) Flaky(up, down int, features ...string) error {
	line := fmt.Sprintf("0 %d flakey %s %d %d %d", s.Bytes/sector, MachineDisk, s.first, up, down)
	if len(features) > 0 {
		line += fmt.Sprintf(" %d %s", len(features), strings.Join(features, " "))
	}
	return s.Load(line)
}

// Recover ends all that was done to a disk that is there.
func (s *Slice) Recover() error { return s.Load(s.table()) }

// Load gives the disk another table (dmsetup(8)). What waits for it goes on.
func (s *Slice) Load(table string) error {
	return errors.Join(
		DMSetup("suspend", "--noflush", "--nolockfs", s.Name),
		DMSetup("reload", s.Name, "--table", table),
		DMSetup("resume", s.Name))
}

// DMSetup runs dmsetup, which makes and removes the nodes in /dev itself: there is no udevd.
func DMSetup(args ...string) error {
	_, err := Tool("dmsetup", args...)
	return err
}

// Tool runs a tool of device-mapper or LVM and returns what it printed.
func Tool(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "DM_DISABLE_UDEV=1", "LVM_SUPPRESS_FD_WARNINGS=1")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return string(out), nil
}
