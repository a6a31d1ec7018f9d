package lvm

import "github.com/datastore-csi/datastore-csi/pkg/fault"

// attrLength is how many characters lv_attr has (lvs(8), "NOTES").
const attrLength = 10

// Health is what LVM says of a logical volume's storage.
type Health string

// The healths of a logical volume.
const (
	Sound Health = ""
	// Partial volumes lack a physical volume. A raid may go on without it.
	Partial Health = "partial"
	// RefreshNeeded raids had an error on a leg that may be back.
	RefreshNeeded Health = "refresh needed"
	// Mismatches were found between the legs of a raid.
	Mismatches Health = "mismatches exist"
	// OutOfData thin pools refuse or hold back writes to new blocks.
	OutOfData Health = "out of data space"
	// MetadataReadOnly thin pools can't be changed: their metadata is full or damaged.
	MetadataReadOnly Health = "metadata read only"
	// Failed thin pools and volumes can't be used.
	Failed Health = "failed"
	// Overflowed snapshots have lost what they held: their store was full.
	Overflowed Health = "snapshot overflowed"
	// UnknownHealth is told where device-mapper could not be asked.
	UnknownHealth Health = "unknown"
)

// attr is lv_attr, taken apart.
type attr struct {
	volumeType byte
	readOnly   bool
	active     bool
	open       bool
	zeroing    bool
	health     Health
	skipped    bool
}

// parseAttr reads lv_attr. What a later version may add is passed over; one that is too short is an error.
func parseAttr(s string) (attr, error) {
	if len(s) < attrLength {
		return attr{}, fault.New(fault.Internal, "lv_attr %q has %d characters, wanted %d", shorten(s), len(s), attrLength)
	}
	a := attr{
		volumeType: s[0],
		readOnly:   s[1] == 'r' || s[1] == 'R',
		active:     s[4] != '-' && s[4] != 'X' && s[4] != 'h',
		open:       s[5] == 'o',
		zeroing:    s[7] == 'z',
		skipped:    s[9] == 'k',
	}
	switch s[4] {
	case 'I', 'S':
		a.health = Overflowed
	case 'X':
		a.health = UnknownHealth
	}
	if h := healthOf(s[8]); h != Sound {
		a.health = h
	}
	return a, nil
}

func healthOf(c byte) Health {
	switch c {
	case 'p':
		return Partial
	case 'r':
		return RefreshNeeded
	case 'm':
		return Mismatches
	case 'D':
		return OutOfData
	case 'M':
		return MetadataReadOnly
	case 'F':
		return Failed
	case 'X':
		return UnknownHealth
	}
	return Sound
}
