// Package directory is the datastore type that carves volumes out of a directory of a mounted ext4, xfs
// or btrfs file system: each a raw image file that is used through a loop device, or a sub-directory that is used by bind
// mounts.
//
// # What it keeps on the storage
//
//	PATH/.datastore-csi/pool.json     the marker: whose pool this is
//	PATH/.datastore-csi/tmp/NAME/     a volume that is being made
//	PATH/.datastore-csi/trash/NAME/   what waits for its removal
//	PATH/volumes/NAME/meta.json       the mark of a volume: whose it is, and what rebuilds its record
//	PATH/volumes/NAME/disk.img        its bytes, if it is an image
//	PATH/volumes/NAME/data/           its files, if it is a sub-directory
//
// NAME is the volume's ID and the first digits of its record's UID. A thin image is sparse; a thick one
// has all its space allocated, and on btrfs is overwritten in place.
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
// again where it was not done. Delete renames into trash/; what is there is removed by Reclaim, whenever
// that is called, as is what lies in tmp/ and is not being made. The marker is linked into its place
// when it is whole.
package directory
