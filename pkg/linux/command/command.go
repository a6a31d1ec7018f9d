// Package command is the one way to run a tool.
//
// A tool gets an argument list and never a shell, an environment that is fixed but for what the caller
// adds, and secrets on its standard input only. It runs in a process group of its own: when the context
// ends the whole group is killed, and Run returns within a second of that even where the kernel holds
// the child (a dead NFS server, a frozen file system); a goroutine of its own reaps such a child when
// the kernel lets it go, and their number per tool is bounded. A tool dies with the process that
// started it, so that after a crash no old tool is still at work on a device that a new process takes up.
package command

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

const (
	// DefaultPath is where tools are looked for unless Config.Path says otherwise.
	DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// DefaultTimeout bounds a run whose context has no deadline.
	DefaultTimeout = 2 * time.Minute
	// DefaultMaxOutput is what is kept of each of a tool's output streams, in bytes.
	DefaultMaxOutput = 1 << 20
	// MaxStuck is how many runs of one tool may be held by the kernel beyond their end before further
	// runs of that tool are refused.
	MaxStuck = 32
)

// The results that Config.Observe is told.
const (
	ResultOK      = "ok"      // exit code 0, or one of Cmd.OKCodes
	ResultFailed  = "failed"  // any other end, output that was cut short, or no start
	ResultTimeout = "timeout" // the context ended first
	ResultMissing = "missing" // there is no such tool
)

// ErrTruncated is in the error of a run that succeeded but wrote more to its standard output than was
// kept. The bytes that were kept are returned beside it; whoever parses them must not go on.
var ErrTruncated = errors.New("output was cut short")

// Config says how a Runner works. Its zero value is ready to use.
type Config struct {
	// Observe, where not nil, is told of each run: the tool's base name, one of the Result constants and
	// the time it took. It is called by many goroutines.
	Observe func(tool, result string, took time.Duration)
	// Path is the list of folders, separated by colons, in which tools are found and which they get as
	// PATH. "" means DefaultPath.
	Path string
	// Place is where tools are found and run.
	Place Place
}

// Place is a container that tools are found and run in, with its libraries and settings. Paths among their arguments are then paths
// of it: see file.PathForTool for one that always works. The zero value is where this process is.
type Place struct {
	// Root is a path of the container's root, Mounts one of its mount namespace, whose root that is. Tools look into the table of
	// mounts, so that the root alone is not enough.
	Root, Mounts string
}

// Runner runs tools. It is safe for use by many goroutines.
type Runner struct {
	observe func(tool, result string, took time.Duration)
	path    string
	place   Place

	mu    sync.Mutex
	stuck map[string]int
	facts map[string]fact
}

// New returns a Runner.
func New(c Config) *Runner {
	r := &Runner{observe: c.Observe, path: c.Path, place: c.Place, stuck: map[string]int{}, facts: map[string]fact{}}
	if r.observe == nil {
		r.observe = func(string, string, time.Duration) {}
	}
	if r.path == "" {
		r.path = DefaultPath
	}
	return r
}

// Cmd is one run of a tool.
type Cmd struct {
	// Tool is a bare name that is looked up in the Runner's path, or a path.
	Tool string
	// Args are the arguments behind the tool's name. Nothing secret belongs here: any user of the
	// machine can read them.
	Args []string
	// Stdin is what the tool reads; nil is an empty input. It is the only way for a secret, and each of
	// its lines is kept out of errors as if it stood in Redact.
	Stdin []byte
	// Env is added to the fixed environment (PATH, LC_ALL=C, HOME=/), as KEY=value. Nothing is
	// inherited from the driver.
	Env []string
	// Changes, where not empty, says that the run changes the world and names the change: the run is
	// then one step (see pkg/step).
	Changes string
	// Redact lists strings that no error may show.
	Redact []string
	// MaxOutput is how many bytes of each output stream are kept; 0 is DefaultMaxOutput. What comes
	// beyond is read and dropped, so the tool goes on, and the run ends with ErrTruncated.
	MaxOutput int
	// Combined joins the standard error to the standard output, for tools that write what they found, or
	// what went wrong, to either. Errors then show both.
	Combined bool
	// OKCodes are exit codes besides 0 that are an answer and not a failure (blkid's 2, say). Run
	// returns them as errors all the same; they are only not counted as failures.
	OKCodes []int
}

// Run runs a tool to its end and returns what it wrote to its standard output.
//
// Errors: an exit code other than 0 is fault.Internal around an *Error (see ExitCode); a context that
// ended, a tool that is missing, and a tool with too many stuck runs are fault.Unavailable; a command
// that can't be passed to a program (a NUL in it, no tool) is fault.Invalid. A context without a
// deadline gets DefaultTimeout. What the tool leaves behind in its process group is killed when it ends.
func (r *Runner) Run(ctx context.Context, c Cmd) ([]byte, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	began := time.Now()
	out, result, err := r.run(ctx, c)
	r.observe(baseName(c.Tool), result, time.Since(began))
	return out, err
}

// Stuck returns how many children (and calls of Await) outlived their run because the kernel held them,
// and have not ended yet.
func (r *Runner) Stuck() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, s := range r.stuck {
		n += s
	}
	return n
}

// run looks the tool up and executes it, as one step where it changes the world.
func (r *Runner) run(ctx context.Context, c Cmd) (out []byte, result string, err error) {
	path, err := r.find(c.Tool)
	if err != nil {
		return nil, ResultMissing, err
	}
	if err := r.admit(c.Tool); err != nil {
		return nil, ResultFailed, err
	}
	if ctx.Err() != nil {
		return nil, ResultTimeout, fault.New(fault.Unavailable, "%s was not run: %w", c.Tool, ctx.Err())
	}
	execute := func() error {
		out, result, err = r.execute(ctx, path, c)
		return err
	}
	if c.Changes == "" {
		err = execute()
	} else {
		err = step.Do(ctx, c.Changes, execute)
	}
	return out, result, err
}

// admit refuses a tool of which too many runs hang in the kernel.
func (r *Runner) admit(tool string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.stuck[tool]; n >= MaxStuck {
		return fault.New(fault.Unavailable, "%s is not run: %d earlier runs of it are held by the kernel; "+
			"look for processes in state D and for the storage that they wait for", tool, n)
	}
	return nil
}

// addStuck counts the stuck runs of a tool.
func (r *Runner) addStuck(tool string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stuck[tool] += n; r.stuck[tool] == 0 {
		delete(r.stuck, tool)
	}
}

// validate refuses what can't be handed to a program as it is.
func (c Cmd) validate() error {
	switch {
	case c.Tool == "":
		return fault.New(fault.Invalid, "no tool is named")
	case strings.ContainsRune(c.Tool, 0) || slices.ContainsFunc(c.Args, hasNUL) || slices.ContainsFunc(c.Env, hasNUL):
		return fault.New(fault.Invalid, "an argument or environment entry of %q contains a NUL byte", c.Tool)
	}
	for _, e := range c.Env {
		if strings.Index(e, "=") < 1 {
			return fault.New(fault.Invalid, "an environment entry of %q is not KEY=value", c.Tool)
		}
	}
	return nil
}

func hasNUL(s string) bool { return strings.ContainsRune(s, 0) }
