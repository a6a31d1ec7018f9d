package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Mapped is a device of device-mapper, as sysfs shows it (Documentation/ABI/testing/sysfs-block-dm).
type Mapped struct {
	// Device is the kernel's name, "dm-3"; Name and UUID are those that its maker gave it.
	Device, Name, UUID string
	Suspended          bool
	// Sectors of 512 bytes that it has.
	Sectors string
	// On are the kernel's names of the devices that it lies on.
	On []string
}

// MappedDevices gives all of them, by name.
func MappedDevices() (map[string]Mapped, error) {
	folders, err := filepath.Glob("/sys/block/dm-*")
	if err != nil {
		return nil, err
	}
	all := map[string]Mapped{}
	for _, folder := range folders {
		m, err := mappedAt(folder)
		switch {
		case errors.Is(err, os.ErrNotExist): // removed meanwhile
		case err != nil:
			return nil, err
		default:
			all[m.Name] = m
		}
	}
	return all, nil
}

func mappedAt(folder string) (Mapped, error) {
	m := Mapped{Device: filepath.Base(folder)}
	var suspended string
	for file, to := range map[string]*string{"dm/name": &m.Name, "dm/uuid": &m.UUID, "dm/suspended": &suspended, "size": &m.Sectors} {
		text, err := os.ReadFile(filepath.Join(folder, file))
		if err != nil {
			return m, err
		}
		*to = strings.TrimSpace(string(text))
	}
	m.Suspended = suspended == "1"
	entries, err := os.ReadDir(filepath.Join(folder, "slaves"))
	for _, e := range entries {
		m.On = append(m.On, e.Name())
	}
	slices.Sort(m.On)
	return m, err
}

// MappedView shows the device-mapper devices whose UUID begins so: "LVM-" and the UUID of a volume group, without its
// dashes, for those of a volume group.
func MappedView(uuid string) View {
	return func(p Photo) error {
		all, err := MappedDevices()
		for _, m := range all {
			if strings.HasPrefix(m.UUID, uuid) {
				p["mapped "+m.Name] = fmt.Sprintf("uuid %s, %s sectors, suspended %v, on %d devices", m.UUID, m.Sectors, m.Suspended, len(m.On))
			}
		}
		return err
	}
}
