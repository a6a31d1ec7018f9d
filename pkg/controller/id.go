package controller

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

const (
	volumePrefix   = "v-"
	snapshotPrefix = "s-"
	hashDigits     = 40
	// maxIDBytes bounds an ID from outside: Kubernetes allows 253 bytes in a record's name.
	maxIDBytes = 253
	// maxNameBytes bounds the name given to CreateVolume or CreateSnapshot: the size limit of CSI's string fields.
	maxNameBytes = 128
)

var (
	hashed = regexp.MustCompile(`^[0-9a-f]{40}$`)
	// handle is what an ID may look like at all. It can name no path but a file in its own folder.
	handle = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
)

// VolumeID returns the ID of the volume with that CSI name: the name itself where it is a DNS label, else
// "v-" and 40 hexadecimal digits of its SHA-256. A name that looks like such a hash is hashed, so that no
// name can be made to meet another's ID.
func VolumeID(name string) string { return recordName(volumePrefix, name) }

// SnapshotID is VolumeID for a snapshot's name, with "s-".
func SnapshotID(name string) string { return recordName(snapshotPrefix, name) }

func recordName(prefix, name string) string {
	digits, looksHashed := strings.CutPrefix(name, prefix)
	if len(validation.IsDNS1123Label(name)) == 0 && (!looksHashed || !hashed.MatchString(digits)) {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return prefix + hex.EncodeToString(sum[:])[:hashDigits]
}

// CheckID refuses what can never be a volume's ID, as fault.Invalid.
func CheckID(id string) error { return checkHandle("volume", id) }

// CheckSnapshotID refuses what can never be a snapshot's ID, as fault.Invalid.
func CheckSnapshotID(id string) error { return checkHandle("snapshot", id) }

func checkHandle(what, id string) error {
	switch {
	case id == "":
		return fault.New(fault.Invalid, "the %s ID is missing", what)
	case len(id) > maxIDBytes:
		return fault.New(fault.Invalid, "the %s ID has %d bytes, %d are allowed", what, len(id), maxIDBytes)
	case !handle.MatchString(id) || strings.Contains(id, ".."):
		return fault.New(fault.Invalid, "%q is not a %s ID: letters, digits, '-', '_' and '.' are allowed, and no '..'", id, what)
	}
	return nil
}

// checkName refuses what cannot be a volume's or a snapshot's name, as fault.Invalid.
func checkName(what, name string) error {
	if name == "" {
		return fault.New(fault.Invalid, "the %s name is missing", what)
	}
	if len(name) > maxNameBytes {
		return fault.New(fault.Invalid, "the %s name has %d bytes, %d are allowed", what, len(name), maxNameBytes)
	}
	if !utf8.ValidString(name) || strings.ContainsFunc(name, forbidden) {
		return fault.New(fault.Invalid, "the %s name %q has characters that the CSI specification forbids", what, name)
	}
	return nil
}

// forbidden tells which characters a name must not have (CSI specification, CreateVolumeRequest.name and
// CreateSnapshotRequest.name): control characters other than tab, line feed and carriage return.
func forbidden(r rune) bool {
	return unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r'
}
