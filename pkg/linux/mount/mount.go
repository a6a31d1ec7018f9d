// Package mount mounts, binds and unmounts by system calls, and says what is mounted where.
//
// It uses the mount calls of Linux 5.12 and later: fsopen(2), fsmount(2), open_tree(2), move_mount(2)
// and mount_setattr(2). A mount is prepared out of everybody's sight, checked on the very descriptor
// that is then used, and becomes visible in one step with all its attributes. A target is opened once,
// never through a symbolic link in its last component, and used by its descriptor.
//
// Paths are absolute and clean (CheckPath). Nothing here reads the mount table to learn about one
// path: that takes one statx(2), however many mounts there are.
package mount

// Config says how a Mounter works.
type Config struct {
	// MountInfo is the mount table that List reads; empty means /proc/self/mountinfo.
	MountInfo string
}

// Mounter changes and reads the mounts of this process's mount namespace. It holds no state of the
// machine, so it may be used by any number of goroutines.
type Mounter struct {
	mountInfo string
}

// New returns a Mounter.
func New(c Config) *Mounter {
	if c.MountInfo == "" {
		c.MountInfo = "/proc/self/mountinfo"
	}
	return &Mounter{mountInfo: c.MountInfo}
}
