// Package directory is the datastore type that carves volumes out of a directory of a mounted ext4, xfs
// or btrfs file system: each a raw image file that is used through a loop device, or a sub-directory that is used by bind
// mounts.
//
// # What it keeps on the storage
//
//	PATH/.datastore-csi/pool.json     the marker: whose pool this is
//	PATH/.datastore-csi/tmp/NAME/     a volume that is being made; with copy.json, how far a long copy is
//	PATH/.datastore-csi/trash/NAME/   what waits for its wipe and removal
//	PATH/volumes/NAME/meta.json       the mark of a volume: whose it is, and what rebuilds its record
//	PATH/volumes/NAME/disk.img        its bytes, if it is an image
//	PATH/volumes/NAME/data/           its files, if it is a sub-directory
//	PATH/volumes/NAME/wipe.json       what must be done to its bytes before they are given back; most have none
//	PATH/snapshots/NAME/              the same of a snapshot
//	PATH/archived/READABLE-NAME/      the same of a volume that was archived when it was deleted
//
// NAME is the volume's ID and the first digits of its record's UID; in tmp/ and trash/ that of a snapshot ends in
// ".snapshot". A thin image is sparse; a thick one has all its space allocated, and on btrfs is overwritten in place.
//
// # Copies
//
// Where the file system lets files share blocks (xfs with reflink=1, btrfs; the pool tries), an image's snapshot or copy
// shares those of its source: instant, of one moment, whoever writes to the source. Elsewhere the data is copied, of a
// source that nobody has open for writing and that doesn't change meanwhile; all that was made durable is kept and gone on
// with, by the next call and after a restart, for a day. A thick volume never shares: its blocks are copied, from a
// sharing image beside it (origin.img) where the source may be in use. What the source overwrites during that time takes
// new space, which only the copy's own check for room keeps free. A copy of btrfs gets the UUID of its record before it
// comes into its place; a snapshot, which is never mounted, and copies of ext4 and xfs keep their source's.
//
// # What becomes of deleted volumes
//
// A retained volume stays where it is, with the time in its mark; an archived one is renamed, with its mark. Neither
// counts as promised any more. Of a wipe with zeroes, all blocks that an image has are overwritten before they are given
// back, and where they lay is compared with where they lie then: this is for ext4 and xfs; btrfs writes elsewhere, so
// that it is refused there. Blocks that another image shares are that one's data: it is ordered to wipe them in its turn, and
// so are its copies. The loop devices of such volumes give nothing back while they are in use, from their next attachment
// on. What stays out of reach is what a consumer zeroes with a command of its own on xfs (BLKZEROOUT takes other blocks), the journal of an ext4 with
// data=journal, and spare cells of the disk. A wipe by discard gives the blocks back at once; the disk is told
// where the file system is mounted with the option discard, else by the machine's next fstrim.
//
// The size of a sub-directory is a hard limit of the file system. On ext4 and xfs data/ and all in it bears a project of
// its own with a quota; the mark names the project, which lies from 0x44000000 to 0x53ffffff and is found by hashing the
// record's UID, or the next such hash where somebody has it. On btrfs data/ is a subvolume with a limit of its qgroup, and
// a copy or snapshot is one of it. With quota: none there is no limit.
//
// # Invariants
//
//   - Nothing is kept open between calls, so the administrator can unmount the file system whenever no
//     volume is in use. Each call opens PATH anew, reads the marker, and then works beneath that descriptor
//     only, through no symbolic link and no mount point (pkg/linux/file). Without the very marker that the
//     pool was opened with, nothing is changed.
//   - What stands in volumes/ under its name with a mark was whole and durable before it came there, by one
//     rename that replaces nothing.
//   - A volume is touched only where its mark bears its ID, its record's UID and this cluster's ID. Anything
//     else in the directory, in volumes/ too, is foreign and left alone. What lies in tmp/ and trash/ is the
//     pool's own.
//   - A snapshot's bytes never change. No volume, snapshot or copy needs another one: they go in any order.
//   - An order to wipe stands beside the bytes before they are out of their place, and is never taken back.
//   - The size in a mark is never larger than the image.
//   - A sub-directory is limited before it comes into its place, and until it is out of use. No limit of ours is left where
//     no directory bears it: a directory bears its project before the project has a limit, and loses the limit before it
//     is removed. Open sets a limit again that differs from the mark, and refuses where none is enforced.
//   - A sub-directory that is mounted anywhere is not deleted.
//
// # Recovery
//
// Create removes what an earlier try left in tmp/ and begins again, so that mkfs never meets half a file
// system. Expand grows the image, then writes the size into the mark, then tells the kernel; each is done
// again where it was not done. Delete renames into trash/; what is there is wiped and removed by Reclaim, whenever
// that is called, from where it was interrupted, as is what lies in tmp/ and is neither being made nor can be gone on with.
// A copy whose mark stands beside it in tmp/ is whole and only renamed. The marker is linked into its place
// when it is whole.
package directory
