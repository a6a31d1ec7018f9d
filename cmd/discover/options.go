// Package discover tells what this host has that could become a datastore, and changes nothing.
package discover

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

// YAML is the format of ready documents.
const YAML = "yaml"

// Options say what is looked for.
type Options struct {
	// Type of datastore; "" is any.
	Type string
	// Format is "table", "json" or "yaml".
	Format string
	// All shows loop devices and what can never be used, too.
	All bool
	Out io.Writer
	// Tools is where tools are found and run.
	Tools command.Place
}

// AddFlags adds the options' flags to a set.
func (o *Options) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.Type, "type", "", "only what can become a datastore of this type: "+strings.Join(types(), ", "))
	f.StringVarP(&o.Format, "output", "o", parts.Table, "format: table, json or yaml (Datastore documents)")
	f.BoolVar(&o.All, "all", false, "loop devices, too, and what is in use by the system")
}

func types() []string {
	return []string{
		string(v1alpha1.TypeDirectory), string(v1alpha1.TypePartition), string(v1alpha1.TypeDisk), string(v1alpha1.TypeLVM),
	}
}

// Validate checks the options; the error names each flag that is wrong and says what is allowed.
func (o *Options) Validate() error {
	if o.Type != "" && !slices.Contains(types(), o.Type) {
		return fmt.Errorf("--type %q: %s are allowed", o.Type, strings.Join(types(), ", "))
	}
	if !slices.Contains([]string{parts.Table, parts.JSON, YAML}, o.Format) {
		return fmt.Errorf("--output %q: table, json and yaml are allowed", o.Format)
	}
	return nil
}

// Run looks and prints.
func Run(ctx context.Context, o Options) error {
	if err := o.Validate(); err != nil {
		return err
	}
	found, err := look(ctx, command.New(command.Config{Place: o.Tools}))
	if err != nil {
		return err
	}
	found = slices.DeleteFunc(found, func(f Found) bool { return f.hidden && !o.All || o.Type != "" && !f.could(o.Type) })
	return write(o.Out, o.Format, v1alpha1.DatastoreType(o.Type), found)
}
