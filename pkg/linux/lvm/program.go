package lvm

import (
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

// settings of every call, whatever the host's lvm.conf says. See the package's comment.
const settings = `activation{udev_sync=0 udev_rules=0 verify_udev_operations=0 monitoring=0} ` +
	`global{event_activation=0 use_lvmpolld=0 notify_dbus=0 suffix=0} backup{backup=0 archive=0} ` +
	`report{list_item_separator="," prefixes=0 binary_values_as_numeric=0 mark_hidden_devices=1} log{report_command_log=0 prefix="  " command_names=0} ` +
	`allocation{thin_pool_zero=1} `

// discarding also tells the devices below which extents are of no use any more.
const discarding = "issue_discards=1 "

// maxReport bounds a report in bytes. A volume takes some 500, and its extents.
const maxReport = 64 << 20

// longest is how long a call may take that has no other deadline, and a change in any case. LVM reads all devices of the group, which
// may wait for a disk to fail.
const longest = 5 * time.Minute

// program runs lvm.
type program struct{ run *command.Runner }

// call is one run of lvm.
type call struct {
	// devices that it may see.
	devices []string
	args    []string
	// changes names the change; "" for none.
	changes string
	// discard has the devices below told of extents that are given back.
	discard bool
}

// do runs lvm once.
func (p program) do(ctx context.Context, c call) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.changes != "" {
		// Whoever doesn't need the change any more must not have lvm killed in the middle of it: a volume may be suspended just then, and
		// whatever is mounted from it would stand still.
		ctx = context.WithoutCancel(ctx)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, longest)
		defer cancel()
	}
	config, err := configuration(c.devices, c.discard)
	if err != nil {
		return nil, err
	}
	args := slices.Concat(c.args, []string{"--config", config})
	for _, d := range c.devices {
		args = append(args, "--devices", d)
	}
	out, err := p.run.Run(ctx, command.Cmd{
		Tool: "lvm", Args: args, Changes: c.changes, MaxOutput: maxReport,
		Env: []string{"DM_DISABLE_UDEV=1", "LVM_SUPPRESS_FD_WARNINGS=1"},
	})
	return out, concise(err)
}

// configuration rejects all devices but those.
func configuration(devices []string, discard bool) (string, error) {
	if len(devices) == 0 {
		return "", fault.New(fault.Unavailable, "none of its devices is there")
	}
	var filter strings.Builder
	for _, d := range devices {
		if !filepath.IsAbs(d) || strings.ContainsAny(d, "\"\\|,\n") {
			return "", fault.New(fault.Invalid, "device path %q can't be given to lvm", shorten(d))
		}
		filter.WriteString(`"a|^` + regexp.QuoteMeta(d) + `$|",`)
	}
	list := strings.ReplaceAll(filter.String(), `\`, `\\`) + `"r|.*|"`
	out := settings + `devices{obtain_device_list_from_udev=0 external_device_info_source="none" use_devicesfile=0 scan_lvs=0 hints="none" `
	if discard {
		out += discarding
	}
	return out + "filter=[" + list + "] global_filter=[" + list + "]}", nil
}

// concise leaves the configuration out of an error: it is the same each time, and long.
func concise(err error) error {
	e, ok := asCommand(err)
	if !ok {
		return err
	}
	for i := 0; i+1 < len(e.Args); i++ {
		if e.Args[i] == "--config" {
			e.Args = slices.Delete(e.Args, i, i+2)
			break
		}
	}
	return err
}
