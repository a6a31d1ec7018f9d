package pid1

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/test/testbed/internal/order"
)

// lvmWithoutUdev makes LVM and libdevmapper make their nodes themselves and wait for no udevd: there is none.
const lvmWithoutUdev = `activation { udev_sync=0 udev_rules=0 verify_udev_operations=0 monitoring=0 }
devices { obtain_device_list_from_udev=0 external_device_info_source="none" use_devicesfile=0 }
global { event_activation=0 use_lvmpolld=0 }
`

// nameMachine writes the files under /etc that belong to one machine. Without this, each machine would take
// the host's for its own.
func nameMachine(o order.Order) error {
	if err := unix.Sethostname([]byte(o.HostName)); err != nil {
		return fmt.Errorf("set the host name %q: %w", o.HostName, err)
	}
	files := []struct{ path, content string }{
		{"/etc/hostname", o.HostName + "\n"},
		{"/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 " + o.HostName + "\n"},
		{"/etc/machine-id", o.MachineID + "\n"},
		{"/etc/lvm/lvmlocal.conf", lvmWithoutUdev},
	}
	for _, f := range files {
		// Removed first: one of these may be a link to the host's, or bound read-only in a container.
		if err := os.Remove(f.path); err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := os.WriteFile(f.path, []byte(f.content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func loopbackUp() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	defer func() { _ = unix.Close(socket) }()
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	return nil
}
