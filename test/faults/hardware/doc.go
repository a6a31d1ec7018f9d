// Package hardware lets the disks below volume groups lie: they can't be read, wholly or in part, other devices take their volumes'
// names, guests put volume groups on them, and thin pools fill by what is really written. No bytes of anybody may be lost or taken for
// blank, and all works again once the disk does. It runs in a machine of the test bed.
package hardware
