// Package lvm is the datastore type whose volumes are logical volumes of LVM: thick ones in the free space of a volume group, or thin
// ones in a thin pool. Several datastores may share a group: one of thick volumes, and one for each thin pool.
//
// # What it keeps on the storage
//
// Everything stands in tags, which LVM changes together with what they are about, and which `lvs -o+tags` shows. All begin
// with "dcsi."; a volume that bears none is foreign and left alone.
//
//	dcsi.pool=v=1&p=...        on the group, or on the thin pool: the marker, whose pool this is
//	dcsi.mark.1.1=v=1&i=...    on a volume: its mark, whose it is, and what rebuilds its record; in several pieces where it is long
//	dcsi.making                it is not whole yet
//	dcsi.growing               what was added to it is being zeroed
//	dcsi.at=BYTES              how far long work on it is
//	dcsi.remainder=POOL/WIPE   it waits for that to be done to its bytes, and for its removal
//	dcsi.kept=POLICY/TIME      it was deleted, and its data stays: retained in its place, or archived under a readable name
//	dcsi.temporary=POOL        a snapshot that a copy is being read from
//	dcsi.since=TIME            when it got into that state
//
// A volume is called by its ID and the first digits of its record's UID, a snapshot the same with "s-" before it. "t-" is before
// the temporary snapshot of a copy, "z-" before extents that are zeroed for a volume. Each volume bears LVM's activation skip, so that
// nothing but this driver activates it.
//
// # Old bytes
//
// A new raw volume reads as zeroes, whoever had its extents before, unless spec.volumes.wipe is None. A thin pool zeroes each block before a volume gets it;
// one that doesn't is refused. In a volume group, a deleted volume is only tagged, at once, and zeroed by Reclaim in its own time,
// which then gives its extents back and remembers that they read as zeroes. A raw volume is made of such extents, by one
// call of lvm. Where there are too few of them (in a group that others had before, after a restart, or when somebody has
// changed the group by hand, for then nothing is known any more), as many extents as it needs are zeroed first. A volume
// with a file system needs no zeroes: what no file has is not readable through it; only what probes look at is zeroed before mkfs.
// The stores of copy-on-write snapshots are split off and zeroed in the same way.
//
// # Snapshots and copies
//
// A thin snapshot or copy shares its source's blocks: one call, any order of deletion. A snapshot of a thick volume is
// copy-on-write and has a store of limited size (20% of the volume, or snapshotSize): it is told of from 80% on, and lost when it is full,
// which is told too, and what is lost is never copied. A thick volume is copied byte by byte, from its snapshot or one that is made for that,
// so that the source may be in use. Copies go on where they were interrupted, for a day. A deleted volume that still has
// copy-on-write snapshots waits as a remainder until the last of them is gone. While it has some, a volume grows only when it is not
// in use: device-mapper can't do it. File systems are never frozen for a snapshot: device-mapper does that itself, and fails where somebody else has.
//
// # Invariants
//
//   - The group is known by its UUID, and looked at before each change: without the very marker that the pool was opened with, nothing is
//     changed. A group that several hosts may change (a lock type, another host's system ID) is refused.
//   - A volume is touched only where its mark bears its ID, its record's UID and this cluster's ID; a remainder, where it bears this pool's UUID.
//   - What bears a mark and neither dcsi.making nor dcsi.remainder is whole. One call of lvm makes it so, with all tags.
//   - Devices are found in device-mapper by the volume's name and proven by the group's UUID. A file system is made on nothing else.
//   - Volumes are active from Open to Close, and while they are made, wiped or copied; a thin pool always. Nothing looks into them.
//   - lvremove would take a volume's copy-on-write snapshots with it: one that has some is never removed.
//
// # Recovery
//
// Create removes what an earlier try has begun and makes it anew; copies and zeroing go on. Expand extends, then writes the size into
// the mark; each is done again where it was not done. Delete adds a tag; what bears it is wiped and removed by Reclaim, from where it was interrupted.
// A device that a call of lvm left suspended when it died is resumed when the pool is opened, and before the volume is used.
package lvm
