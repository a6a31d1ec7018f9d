// Package disk is the datastore type that carves volumes out of disks: each a partition of a GUID partition table, or, where
// spec.disk.whole says so, a whole disk.
//
// # What it keeps on a disk with partitions
//
//	partition 1          the metadata: 256 slots of 32 KiB, twice. Slot 0 says whose the disk is, slot n what partition n is
//	partitions 2 to 255  one each for a volume, or for what waits for its wipe
//
// A slot holds JSON behind a header with its number, the disk's GUID, a number that rises with every writing, and a sum
// (CRC-32C). It is written to the half that is older, flushed, and then to the other: one of them is always whole, and after
// a writing both are. The marker in slot 0 holds the pool's UUID, cluster, machine, datastore, and which free space is known
// to be zero. A mark in slot n is bound to its partition by the partition's GUID, which is made of the volume's UID.
//
// # Which disk
//
// A disk is known by the GUID of its table and the marker in it, whatever path leads there today. Where two disks bear the
// same (a clone), that one is taken whose WWID or serial the marker names. A disk is taken into a pool only where it is
// blank by every probe; what bears anything else is left alone and reported.
//
// # Invariants
//
//   - A partition is marked before it is in the table, and leaves the table before its mark is cleared. So space that is
//     neither in the table nor in a mark is free, and no partition of ours is ever without a mark.
//   - A partition without a mark is somebody else's and left alone.
//   - What a volume's reader gets who may not write is a read-only loop device on the partition.
//   - The kernel has a partition while it is open, and while it is made, copied or wiped; Close takes it from the kernel,
//     which refuses where anybody has it open or mounted. That is also how it is proven that nobody uses a volume.
//   - A raw volume reads as zeroes when it is first Ready: what isn't known to be zero is zeroed. A formatted one is zeroed
//     where signatures could lie; what else is there no file system shows.
//   - Before anything is done to a disk it is opened and its table's header and its marker are read past the page cache.
//
// # Recovery
//
// A mark says how far its volume is: Making (and how many bytes are zeroed or copied), Whole, Retained, Archived, Remainder
// (and how many bytes are wiped). Every call goes on from there. Making is repeated by Create, or made a Remainder by Reclaim where
// nobody goes on. Growth is noted in the mark first, then the space is zeroed, then the table, then the kernel, then the mark
// say so. A disk that is being taken bears its marker, as one that is Starting, before it has a table.
//
// # Whole disks
//
// A disk that is a volume has no room for a mark: the record holds its place (RecordOnly), written before the disk is
// touched (datastore.Choose). While a whole disk is prepared or wiped it bears a header of ours at both ends, so that this
// goes on after a restart.
package disk
