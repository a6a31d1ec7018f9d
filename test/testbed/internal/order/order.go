// Package order is what a machine's host side and its first process say to each other: one file down,
// a few lines up.
package order

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// FileName is the order's name in a machine's own folder.
const FileName = "order.json"

// The guest's serial lines. Each is a file descriptor of the kernel's process on the host, so what is
// written there has left the machine when write(2) returns, and a power cut takes none of it back.
const (
	StdoutLine  = "/dev/ttyS0"
	StderrLine  = "/dev/ttyS1"
	ControlLine = "/dev/ttyS2"
)

// UpMark is what the guest writes to its kernel log right before the command starts.
const UpMark = "testbed: up"

// Order is all that the first process needs to know to set up the machine and run one command in it.
type Order struct {
	HostName  string
	MachineID string   // 32 hex digits
	Modules   []string // kernel modules to load
	Shares    []string // folders of the host, seen read-write at the same path
	Program   string   // the command's program: its real path
	Argv      []string
	Env       []string // the command's whole environment
	Dir       string   // the command's working folder
	// HungAfter is how long a task may be blocked before it is reported in the kernel log; 0 is for ever.
	HungAfter time.Duration
}

// Write puts o into the machine's folder.
func Write(folder string, o Order) error {
	data, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode the machine's order: %w", err)
	}
	return os.WriteFile(filepath.Join(folder, FileName), data, 0o600)
}

// Read gives the order in the machine's folder.
func Read(folder string) (Order, error) {
	data, err := os.ReadFile(filepath.Join(folder, FileName))
	if err != nil {
		return Order{}, err
	}
	var o Order
	if err := json.Unmarshal(data, &o); err != nil {
		return Order{}, fmt.Errorf("decode the machine's order: %w", err)
	}
	return o, nil
}

// Report is one line on the control line. Exactly one of its fields is set.
type Report struct {
	Up     bool   // the machine is set up, the command starts now
	Exit   *int   // the command's exit code; 128 + N if it was killed by signal N
	Failed string // why the machine could not be set up
}

// String is the report as it goes over the line, without the newline.
func (r Report) String() string {
	switch {
	case r.Up:
		return "up"
	case r.Exit != nil:
		return fmt.Sprintf("exit %d", *r.Exit)
	default:
		return "failed " + strings.ReplaceAll(r.Failed, "\n", " ")
	}
}

// ParseReport reads one line that [Report.String] made.
func ParseReport(line string) (Report, error) {
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch word {
	case "up":
		return Report{Up: true}, nil
	case "failed":
		return Report{Failed: rest}, nil
	case "exit":
		code, err := strconv.Atoi(rest)
		if err != nil || code < 0 || code > 255 {
			return Report{}, fmt.Errorf("machine reported exit code %q: want 0 to 255", rest)
		}
		return Report{Exit: &code}, nil
	}
	return Report{}, fmt.Errorf("machine reported %q: want up, exit or failed", line)
}
