package filesystem

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

// The exit codes of blkid -p (blkid(8)).
const (
	blkidNothing   = 2 // nothing found, or the device couldn't be read
	blkidAmbiguous = 8 // several signatures
)

// Probe tells what is on a block device or in an image file: ReadSuperblock first, and where that finds
// nothing blkid, which knows foreign signatures and partition tables. Type is "" only where both found
// nothing and all that Blank reads can be read, for blkid can't tell what isn't there from what it
// can't read. Several signatures at once are fault.Precondition; a device that is missing, can't be read
// or doesn't answer in time is fault.Unavailable.
func Probe(ctx context.Context, run *command.Runner, path string) (Signature, error) {
	sig, _, err := probe(ctx, run, path)
	return sig, fault.Wrap(err, "probe", path)
}

// probe tells beside the signature how empty the storage is, which is known only where there is none. A
// file of which nothing was ever written needs no blkid.
func probe(ctx context.Context, run *command.Runner, path string) (Signature, emptiness, error) {
	sig, err := readSignature(ctx, run, path)
	if err != nil || sig.Type != "" {
		return sig, hasData, err
	}
	what, err := content(ctx, run, path)
	if err != nil || what == isHole {
		return Signature{}, what, err
	}
	sig, err = blkid(ctx, run, path)
	return sig, what, err
}

// readSignature reads the superblocks of a path.
func readSignature(ctx context.Context, run *command.Runner, path string) (Signature, error) {
	return command.Await(ctx, run, "read "+path, func(context.Context) (Signature, error) {
		f, err := open(path)
		if err != nil {
			return Signature{}, err
		}
		sig, err := ReadSuperblock(f)
		return sig, closed(f, err)
	})
}

// blkid asks blkid by low-level probing, which reads the device and no cache.
func blkid(ctx context.Context, run *command.Runner, path string) (Signature, error) {
	out, err := run.Run(ctx, command.Cmd{
		Tool: "blkid", Args: []string{"-p", "-o", "export", path}, OKCodes: []int{blkidNothing}, Combined: true,
	})
	switch code, exited := command.ExitCode(err); {
	case err == nil:
		return parseExport(out)
	case !exited:
		return Signature{}, err
	case code == blkidNothing && len(bytes.TrimSpace(out)) == 0:
		return Signature{}, nil
	case code == blkidAmbiguous:
		return Signature{}, fault.New(fault.Precondition, "it bears several signatures at once; look with `wipefs %s`: %w", path, err)
	}
	// With exit code 2 blkid also reports a device that it could not read, and says so in words.
	return Signature{}, fault.New(fault.Unavailable, "blkid could not tell what is on it: %w", err)
}

// parseExport reads the output of `blkid -p -o export` where it found something: lines of KEY=value,
// in which a backslash stands before what a shell would not take literally.
func parseExport(out []byte) (Signature, error) {
	var sig Signature
	table, entry := "", false
	for line := range bytes.Lines(out) {
		line = bytes.TrimRight(line, "\n")
		if len(line) == 0 {
			continue
		}
		key, value, ok := strings.Cut(string(line), "=")
		if !ok || key == "" || !utf8.Valid(line) {
			return Signature{}, fault.New(fault.Internal, "blkid wrote %q, which is not KEY=value", shorten(string(line)))
		}
		value = unescape(value)
		switch {
		case key == "TYPE":
			sig.Type = value
		case key == "PTTYPE":
			table = value
		case key == "UUID":
			sig.UUID = value
		case key == "LABEL":
			sig.Label = value
		case strings.HasPrefix(key, "PART_ENTRY_"):
			entry = true
		}
	}
	switch {
	case sig.Type != "":
		return sig, nil
	case table != "":
		return Signature{Type: table}, nil
	case entry && sig == Signature{}:
		// Only the partition that the device itself is: its content has no signature.
		return Signature{}, nil
	}
	return Signature{}, fault.New(fault.Internal, "blkid found something but doesn't name its type: %q", shorten(string(out)))
}

// unescape removes the backslashes of `-o export`.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// open opens a block device or a regular file for reading.
func open(path string) (*os.File, error) {
	if !filepath.IsAbs(path) {
		return nil, fault.New(fault.Invalid, "path %q is not absolute", shorten(path))
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "can't be examined: %w", err)
	}
	if !st.Mode().IsRegular() && st.Mode()&(os.ModeDevice|os.ModeCharDevice) != os.ModeDevice {
		return nil, fault.New(fault.Precondition, "is neither a block device nor a regular file (%s)", st.Mode())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "can't be opened: %w", err)
	}
	return f, nil
}

// closed closes a file that was read and passes the reading's error on. Closing such a file can't lose
// anything.
func closed(f io.Closer, err error) error {
	_ = f.Close()
	return err
}
