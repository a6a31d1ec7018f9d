// Package lvm uses the logical volumes of one or several volume groups through the lvm program (LVM2, 2.03.12 or later).
//
// # Reads
//
// One call of `lvm fullreport` answers every question about a volume group. Its answer is kept, and is good for as long as
// the sequence number and the checksum of the group's metadata are the same: Stamp reads them from the physical volumes themselves, in some
// microseconds and without a process, so that a change by hand is seen by the next call. After a change of its own a Group
// knows what the answer would be; where the sequence number has risen by more than that change accounts for, somebody else
// was there as well, and the answer is asked for anew. What changes without the metadata (what is active, how full a thin pool is)
// is only as new as the report; Fresh asks for it.
//
// # Changes
//
// Each change is one call of lvm, and LVM commits it as a whole. Calls on one group wait for each other, as they would for
// LVM's own lock; groups do not wait for each other.
//
// # What a call can see
//
// Every call names its devices (--devices), and its configuration rejects all others: an LV's content, a loop device, or
// another group of the same name is never looked at. The host's devices file, filters, udev and dmeventd play no
// part: device nodes are made by LVM itself, nothing waits for udev, nothing is monitored, and no backups of metadata
// pile up. What stays is the host's /etc/lvm for what is the administrator's to say: system ID, volume lists. LVM's locks in
// /run/lock/lvm keep an administrator's calls and these apart; in a container that folder must be the host's.
//
// Groups and volumes are known by their UUIDs. A volume's device is looked up in device-mapper by the two UUIDs (Device),
// never by a link in /dev.
//
// # A resident lvm
//
// The lvm program can also read commands from its standard input. Measured in User-Mode Linux (LVM 2.03.16; 20 calls each),
// where a process is dear: creating a volume took 190 ms by a process of its own and 34 ms by a resident one; removing it 190 and 30.
// Of the difference 75 ms are the start of any program of that many libraries (on a machine of its own: 5 to 8 ms), the rest is the
// reading of its configuration. It is not used all the same. The resident program reports no exit code but in a log
// that must be told from the report, splits lines without any escape and into 64 words at most, keeps what it has read of
// devices and configuration, and, killed at a deadline, takes the calls of others with it. A process a call
// ends with its caller, says how it ended, and costs what the bare tool costs, which is what the pools are measured against.
package lvm
