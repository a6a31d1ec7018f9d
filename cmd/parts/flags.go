package parts

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/pflag"
)

// The formats that commands print in.
const (
	Table = "table"
	JSON  = "json"
)

// AddFormat adds the flag that chooses a format.
func AddFormat(f *pflag.FlagSet, format *string) {
	f.StringVarP(format, "output", "o", Table, "format: table or json")
}

// CheckFormat refuses what is no format.
func CheckFormat(format string) error {
	if format != Table && format != JSON {
		return fmt.Errorf("--output %q: table and json are allowed", format)
	}
	return nil
}

// Absolute makes a flag's path, which must be given, independent of the working directory.
func Absolute(flag string, path *string) error {
	if *path == "" {
		return fmt.Errorf("%s is missing", flag)
	}
	abs, err := filepath.Abs(*path)
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	*path = abs
	return nil
}
