package testbed

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
)

// outputLimit is how much an [Output] keeps, in bytes; what is older is dropped.
const outputLimit = 1 << 20

var errEnded = errors.New("machine has ended")

// Output collects what a command in a machine writes. Its methods may be called from several goroutines.
type Output struct {
	mirror io.Writer // gets all of it as well, at once; may be nil

	mu      sync.Mutex
	kept    []byte
	seen    int           // how much of kept waitLine has looked at
	changed chan struct{} // closed, and made anew, at each change
	end     error         // set when nothing follows
}

func newOutput(mirror io.Writer) *Output {
	return &Output{mirror: mirror, changed: make(chan struct{})}
}

// String gives what was written, at most the last MiB, with plain newlines.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.ReplaceAll(string(o.kept), "\r\n", "\n")
}

// tail gives the last lines, for a message.
func (o *Output) tail() string {
	const lines = 20
	all := strings.SplitAfter(o.String(), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}

// readAll collects all that comes from line, until no process has its other end any more.
func (o *Output) readAll(line io.Reader) error {
	buffer := make([]byte, 64<<10)
	var mirrorErr error
	for {
		n, err := line.Read(buffer)
		o.add(buffer[:n], err)
		if o.mirror != nil && mirrorErr == nil && n > 0 {
			_, mirrorErr = o.mirror.Write(buffer[:n])
		}
		if err != nil {
			return mirrorErr // the read's error is the end of the machine
		}
	}
}

func (o *Output) add(data []byte, end error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = append(o.kept, data...)
	if over := len(o.kept) - outputLimit; over > 0 {
		o.kept = o.kept[over:]
		o.seen = max(0, o.seen-over)
	}
	if end != nil {
		o.end = errEnded
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

// waitLine gives the next line that contains text, without its newline.
func (o *Output) waitLine(ctx context.Context, text string) (string, error) {
	for {
		line, changed, err := o.nextLine(text)
		if changed == nil {
			return line, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// nextLine gives a line, or an error, or what to wait for.
func (o *Output) nextLine(text string) (string, <-chan struct{}, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		line, _, whole := bytes.Cut(o.kept[o.seen:], []byte("\n"))
		if !whole {
			break
		}
		o.seen += len(line) + 1
		if bytes.Contains(line, []byte(text)) {
			return string(line), nil, nil
		}
	}
	if o.end != nil {
		return "", nil, o.end
	}
	return "", o.changed, nil
}
