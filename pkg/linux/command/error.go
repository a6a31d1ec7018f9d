package command

import (
	"errors"
	"strings"
)

// Error tells how a tool failed. Its texts are redacted, bounded and free of control characters.
type Error struct {
	// Tool and Args are what was run.
	Tool string
	Args []string
	// ExitCode is the tool's, or -1 where it didn't end by itself.
	ExitCode int
	// Stderr is what the tool wrote to its standard error, its beginning and end where it was long.
	Stderr string
	// Err says how the tool ended: an exit status, a signal, the context's error, or ErrTruncated.
	Err error
}

// Error gives the command line, how it ended and what the tool said.
func (e *Error) Error() string {
	text := strings.Join(append([]string{e.Tool}, e.Args...), " ") + ": " + e.Err.Error()
	if e.Stderr != "" {
		text += ": " + e.Stderr
	}
	return text
}

// Unwrap returns how the tool ended.
func (e *Error) Unwrap() error { return e.Err }

// ExitCode returns the exit code that an error of Run carries. It is false where the tool didn't end by
// itself (not started, killed, timed out) and for errors that no tool caused.
func ExitCode(err error) (int, bool) {
	var e *Error
	if !errors.As(err, &e) || e.ExitCode < 0 {
		return 0, false
	}
	return e.ExitCode, true
}
