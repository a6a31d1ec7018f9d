// Package partition is the datastore type that mounts the file system of a block device itself and then is what type
// directory is (pkg/datastore/directory), on the root of that file system.
//
// # What it keeps
//
// On the storage what type directory keeps, and nothing else. On the host, in folders of the driver's own:
//
//	MOUNTS/NAME        where the datastore of that name is mounted; root only can look into MOUNTS
//	STATE/NAME.json    the UUID of its file system, and whether the driver is still making that
//
// MOUNTS lies where it is gone with the next boot (/run), so that nobody who clears away the driver's records removes the
// volumes with them.
//
// # Invariants
//
//   - The device is told by the UUID of its file system, from the first time on: what bears another one is not mounted. What
//     was mounted is compared with the device that was looked at, by its number, or by its UUID where a file system has none
//     (btrfs).
//   - A file system is made only where provision is IfEmpty, the device reads as blank by every probe, and no pool of the
//     datastore's was ever known, neither by its record nor here.
//   - What is mounted for the first time was looked at before, read-only and with its log left alone, and is a pool of this
//     datastore or may become one. What is refused is left as it was.
//   - A device that is mounted elsewhere only is mounted here as well where it bears this pool's marker, and refused otherwise.
//   - A mount outlives the process: it ends only where the administrator switches the datastore off or removes it, and
//     then only when nobody uses it.
//
// # Recovery
//
// Each call looks whether the mount is in its place, and mounts again where it is not; a mount that is there at the start
// is taken over. The UUID of a new file system is written down before mkfs begins: a device that is still blank then is formatted
// with it; one that bears it is looked through from end to end and, whole, taken; and what a killed mkfs left that can't be
// told is refused, with how to make it blank. A mount and what is written down of a datastore that left while the
// driver was not running go at the next start.
package partition
