package mount

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// words are mount(8)'s options sorted by who understands them.
type words struct {
	// set and clear are the mount's own attributes (mount_setattr(2), MOUNT_ATTR_*).
	set, clear uint64
	// super are flags that every file system understands (fs_context's own words).
	super []string
	// data are the file system's own options, in the order given.
	data []string
}

// attribute returns the change that a word makes to a mount's attributes: bits to be set, and bits
// that are cleared first.
func attribute(word string) (set, clear uint64, ok bool) {
	switch word {
	case "nosuid":
		return unix.MOUNT_ATTR_NOSUID, 0, true
	case "suid":
		return 0, unix.MOUNT_ATTR_NOSUID, true
	case "nodev":
		return unix.MOUNT_ATTR_NODEV, 0, true
	case "dev":
		return 0, unix.MOUNT_ATTR_NODEV, true
	case "noexec":
		return unix.MOUNT_ATTR_NOEXEC, 0, true
	case "exec":
		return 0, unix.MOUNT_ATTR_NOEXEC, true
	case "nosymfollow":
		return unix.MOUNT_ATTR_NOSYMFOLLOW, 0, true
	case "symfollow":
		return 0, unix.MOUNT_ATTR_NOSYMFOLLOW, true
	case "nodiratime":
		return unix.MOUNT_ATTR_NODIRATIME, 0, true
	case "diratime":
		return 0, unix.MOUNT_ATTR_NODIRATIME, true
	// The three access-time modes are values of one field, of which relatime is 0.
	case "noatime":
		return unix.MOUNT_ATTR_NOATIME, unix.MOUNT_ATTR__ATIME, true
	case "strictatime":
		return unix.MOUNT_ATTR_STRICTATIME, unix.MOUNT_ATTR__ATIME, true
	case "relatime", "atime", "nostrictatime":
		return unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME, true
	}
	return 0, 0, false
}

// parseWords sorts the options of a mount. Of two that contradict each other the later one counts.
func parseWords(options []string) (words, error) {
	var w words
	for _, o := range options {
		key, _, _ := strings.Cut(o, "=")
		switch {
		case key == "", strings.ContainsRune(o, 0), strings.ContainsAny(key, ", \t\n"):
			return words{}, fault.New(fault.Invalid, "mount option %q is not one word", o)
		case key == "source":
			return words{}, fault.New(fault.Invalid, "mount option %q names another source", o)
		}
		if set, clear, ok := attribute(o); ok {
			w.apply(set, clear)
			continue
		}
		switch o {
		case "defaults", "nofail", "_netdev":
		case "ro":
			w.apply(unix.MOUNT_ATTR_RDONLY, 0)
			w.super = append(w.super, o)
		case "rw":
			w.apply(0, unix.MOUNT_ATTR_RDONLY)
			w.super = append(w.super, o)
		case "sync", "async", "dirsync", "lazytime", "nolazytime":
			w.super = append(w.super, o)
		default:
			w.data = append(w.data, o)
		}
	}
	return w, nil
}

// apply adds one word's change of attributes.
func (w *words) apply(set, clear uint64) {
	w.set = w.set&^clear | set
	w.clear = w.clear&^set | clear
}

// bindWords are the attributes that a bind mount may be given.
func bindWords() []string {
	return []string{"nosuid", "nodev", "noexec", "nosymfollow", "noatime", "nodiratime", "relatime", "strictatime"}
}

// attr returns the attributes of a bind mount in mount_setattr(2)'s form.
func (o BindOptions) attr() (unix.MountAttr, error) {
	var w words
	for _, a := range o.Attributes {
		if !slices.Contains(bindWords(), a) {
			return unix.MountAttr{}, fault.New(fault.Invalid, "bind attribute %q is not one of %s", a, strings.Join(bindWords(), ", "))
		}
		set, clear, _ := attribute(a)
		w.apply(set, clear)
		// mount_setattr(2) wants the whole access-time field cleared whenever it changes.
		w.clear |= clear
	}
	if o.ReadOnly {
		w.set |= unix.MOUNT_ATTR_RDONLY
	}
	attr := unix.MountAttr{Attr_set: w.set, Attr_clr: w.clear}
	if o.Private {
		attr.Propagation = unix.MS_PRIVATE
	}
	return attr, nil
}
