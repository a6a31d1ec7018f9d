package main

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/datastore-csi/datastore-csi/test/testbed"
)

const usage = `vm [OPTION]... PROGRAM [ARGUMENT]...

Boots a machine with a real storage kernel, runs PROGRAM in it in the present working folder and exits
with its exit code; 124: time limit reached, 125: the machine failed or its kernel did.
Each option may stand in the environment too, -disk as VM_DISK and so on. What may be repeated may be one
list with commas as well.

`

// testGrace is what a Go test gets beyond its own -test.timeout, to print its goroutines.
const testGrace = 20 * time.Second

// passedOn are the beginnings of the names of environment variables that the program sees.
var passedOn = []string{"DATASTORE_CSI_", "TEST_", "GOCOVERDIR=", "GODEBUG=", "GOMAXPROCS=", "GORACE=", "GOTRACEBACK="}

type options struct {
	config  testbed.Config
	command testbed.Command
}

// helpError is the error of a command line that asks for help.
type helpError string

func (h helpError) Error() string { return string(h) }

// parse reads the environment and the command line.
func parse(args, environ []string) (options, error) {
	o := options{}
	var help strings.Builder
	var disks, env []string
	flags := flag.NewFlagSet("vm", flag.ContinueOnError)
	flags.SetOutput(&help)
	flags.Usage = flags.PrintDefaults
	flags.Var(list{&disks}, "disk", "`disk` SIZE (thrown away), FILE or FILE:SIZE (made if absent), or none; repeat for more (default 4G,4G)")
	flags.Var(list{&o.config.Modules}, "module", "kernel `module` to load; repeat for more")
	flags.Var(list{&o.config.Shares}, "share", "`folder` of the host to see read-write, beside the module's and the program's; repeat for more")
	flags.Var(list{&env}, "env", "environment `variable` to pass on, NAME or NAME=VALUE; repeat for more")
	flags.StringVar(&o.config.Name, "name", "", "host `name` of the machine; its machine-id follows from it (default random)")
	flags.DurationVar(&o.command.Limit, "time", 0, "hard time `limit` (default 20s over a Go test's own, else 10m)")
	flags.DurationVar(&o.config.HungAfter, "hung", time.Minute, "fail when a task is blocked in the kernel for that `time`; negative: never")
	flags.Func("memory", "`size` of the machine's memory (default 2G)", func(s string) (err error) {
		o.config.Memory, err = testbed.ParseSize(s)
		return err
	})
	flags.Func("cpu", "`number` of the host's CPU to be bound to (default one that is free)", func(s string) error {
		cpu, err := strconv.Atoi(s)
		o.config.CPU = &cpu
		return err
	})
	if err := fromEnvironment(flags, environ); err != nil {
		return o, err
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return o, helpError(usage + help.String())
	case err != nil:
		return o, err
	}
	return o, o.fill(flags.Args(), disks, env, environ)
}

// fromEnvironment sets each flag that has a variable.
func fromEnvironment(flags *flag.FlagSet, environ []string) (err error) {
	flags.VisitAll(func(f *flag.Flag) {
		if value, found := lookUp(environ, "VM_"+strings.ToUpper(f.Name)); found {
			if setErr := f.Value.Set(value); setErr != nil {
				err = errors.Join(err, fmt.Errorf("VM_%s=%s: %w", strings.ToUpper(f.Name), value, setErr))
			}
		}
	})
	return err
}

// fill completes o with what needs more than one flag to know.
func (o *options) fill(program, disks, env, environ []string) error {
	if len(program) == 0 {
		return errors.New("name the program to run; -help tells more")
	}
	o.command.Path, o.command.Args = program[0], program[1:]
	if len(disks) == 0 {
		disks = []string{"4G", "4G"}
	}
	for _, text := range disks {
		if text == "none" {
			continue
		}
		disk, err := testbed.ParseDisk(text)
		if err != nil {
			return err
		}
		o.config.Disks = append(o.config.Disks, disk)
	}
	for _, variable := range environ {
		if slices.ContainsFunc(passedOn, func(begin string) bool { return strings.HasPrefix(variable, begin) }) {
			o.command.Env = append(o.command.Env, variable)
		}
	}
	for _, variable := range env {
		if name := variable; !strings.Contains(name, "=") {
			value, found := lookUp(environ, name)
			if !found {
				continue // nothing to pass on
			}
			variable = name + "=" + value
		}
		o.command.Env = append(o.command.Env, variable)
	}
	if o.command.Limit == 0 {
		o.command.Limit = limitFor(o.command.Args)
	}
	return nil
}

// limitFor gives the limit for a Go test binary's arguments: a little over its own, so that it can tell where
// it hangs. 0 is the machine's default.
func limitFor(args []string) time.Duration {
	for _, arg := range args {
		if value, found := strings.CutPrefix(arg, "-test.timeout="); found {
			if limit, err := time.ParseDuration(value); err == nil && limit > 0 {
				return limit + testGrace
			}
		}
	}
	return 0
}

func lookUp(environ []string, name string) (string, bool) {
	for _, variable := range environ {
		if value, found := strings.CutPrefix(variable, name+"="); found {
			return value, true
		}
	}
	return "", false
}

// list is a flag that may come several times, or hold several values with commas between them.
type list struct{ values *[]string }

func (l list) Set(text string) error {
	*l.values = append(*l.values, strings.Split(text, ",")...)
	return nil
}

func (l list) String() string {
	if l.values == nil {
		return ""
	}
	return strings.Join(*l.values, ",")
}
