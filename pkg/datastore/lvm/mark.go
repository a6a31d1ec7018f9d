package lvm

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/lvm"
)

// layout is the version of what this package keeps on the storage. It rises with every change that an older version of this
// package must not meet.
const layout = "1"

// mark is what a logical volume bears in its tags: whose it is, and what rebuilds its record.
type mark struct {
	datastore.Volume
	// Source of a copy or snapshot, and the instant of whose bytes it was made.
	Source  *datastore.Volume
	TakenAt time.Time
	// Promised is how many bytes a snapshot can take at most.
	Promised int64
}

// The names of a mark's fields. Labels and parameters have their own names behind a prefix.
const (
	fLayout     = "v"
	fID         = "i"
	fName       = "n"
	fUID        = "u"
	fCluster    = "c"
	fBytes      = "b"
	fAccess     = "a"
	fModes      = "m"
	fFilesystem = "f"
	fFSUUID     = "fu"
	fFSOptions  = "fo"
	fCreated    = "t"
	fOnDelete   = "d"
	fWipe       = "w"
	fRedundancy = "r"
	fStripes    = "st"
	fSnapshot   = "s"
	fSize       = "sz"
	fSource     = "so"
	fSourceUID  = "su"
	fSourceKind = "sk"
	fTaken      = "ta"
	fPromised   = "pr"
	fLabel      = "l."
	fParameter  = "p."
	// house is left out of the names of labels that are this project's.
	house = "datastore-csi.io/"
	// sep stands between several values of one field.
	sep = "\n"
	yes = "1"
)

// tags writes a mark.
func (m mark) tags() []string {
	f := fields{
		fLayout: layout, fID: m.ID, fUID: m.UID, fCluster: m.ClusterID, fBytes: strconv.FormatInt(m.Bytes, 10), fAccess: string(m.Access),
		fModes: strings.Join(m.Modes, sep), fCreated: stamp(m.Created), fOnDelete: string(m.OnDelete), fWipe: string(m.Wipe),
		fRedundancy: string(m.Redundancy), fSize: string(m.SnapshotSize), fTaken: stamp(m.TakenAt),
	}
	if m.Name != m.ID {
		f[fName] = m.Name
	}
	if fs := m.Filesystem; fs != nil {
		f[fFilesystem], f[fFSUUID], f[fFSOptions] = fs.Type, fs.UUID, strings.Join(fs.MkfsOptions, sep)
	}
	if m.Stripes != 0 {
		f[fStripes] = strconv.Itoa(m.Stripes)
	}
	if m.Promised != 0 {
		f[fPromised] = strconv.FormatInt(m.Promised, 10)
	}
	if m.Snapshot {
		f[fSnapshot] = yes
	}
	if s := m.Source; s != nil {
		f[fSource], f[fSourceUID] = s.ID, s.UID
		if s.Snapshot {
			f[fSourceKind] = yes
		}
	}
	for k, v := range m.Labels {
		if short, ok := strings.CutPrefix(k, house); ok {
			k = "/" + short // no other label begins so
		}
		f[fLabel+k] = "." + v // which may be empty
	}
	for k, v := range m.Parameters {
		f[fParameter+k] = "." + v
	}
	return split(markTag, f.encode())
}

// stamp writes an instant in nanoseconds; "" is none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixNano(), 36)
}

func parseStamp(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(s, 36, 64)
	return time.Unix(0, n).UTC(), err
}

// readMark reads the mark in a volume's tags. None is fault.NotFound, one that can't be understood fault.Precondition.
func readMark(tags []string) (mark, error) {
	text, err := join(markTag, tags)
	if err != nil {
		return mark{}, err
	}
	f, err := decode(text)
	if err != nil {
		return mark{}, err
	}
	if f[fLayout] != layout {
		return mark{}, fault.New(fault.Precondition, "its mark has layout %q, this version knows %s; use the version that made it", shorten(f[fLayout]), layout)
	}
	m := mark{Volume: datastore.Volume{
		ID: f[fID], Name: cmp.Or(f[fName], f[fID]), UID: f[fUID], ClusterID: f[fCluster], Access: v1alpha1.AccessType(f[fAccess]),
		Format: v1alpha1.FormatDevice, OnDelete: v1alpha1.DeletePolicy(f[fOnDelete]), Wipe: v1alpha1.WipePolicy(f[fWipe]),
		Redundancy: v1alpha1.Redundancy(f[fRedundancy]), SnapshotSize: v1alpha1.ShareOrBytes(f[fSize]), Snapshot: f[fSnapshot] == yes,
		Modes: list(f[fModes]),
	}}
	if err := m.readNumbers(f); err != nil {
		return mark{}, fault.New(fault.Precondition, "its mark can't be read: %w", err)
	}
	if f[fFilesystem] != "" {
		m.Filesystem = &v1alpha1.FilesystemSpec{Type: f[fFilesystem], UUID: f[fFSUUID], MkfsOptions: list(f[fFSOptions])}
	}
	if f[fSource] != "" {
		m.Source = &datastore.Volume{ID: f[fSource], UID: f[fSourceUID], ClusterID: m.ClusterID, Snapshot: f[fSourceKind] == yes}
		if m.Snapshot {
			m.SourceID = m.Source.ID
		}
	}
	m.Labels, m.Parameters = f.named(fLabel), f.named(fParameter)
	return m, checkNames(m.Volume)
}

func (m *mark) readNumbers(f fields) (err error) {
	if m.Bytes, err = strconv.ParseInt(f[fBytes], 10, 64); err != nil {
		return err
	}
	if s := f[fStripes]; s != "" {
		if m.Stripes, err = strconv.Atoi(s); err != nil {
			return err
		}
	}
	if s := f[fPromised]; s != "" {
		if m.Promised, err = strconv.ParseInt(s, 10, 64); err != nil {
			return err
		}
	}
	if m.Created, err = parseStamp(f[fCreated]); err != nil {
		return err
	}
	m.TakenAt, err = parseStamp(f[fTaken])
	return err
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, sep)
}

// named returns the fields of a prefix.
func (f fields) named(prefix string) map[string]string {
	var out map[string]string
	for k, v := range f {
		name, ok := strings.CutPrefix(k, prefix)
		v, dotted := strings.CutPrefix(v, ".")
		if !ok || !dotted {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		if short, ok := strings.CutPrefix(name, "/"); ok && prefix == fLabel {
			name = house + short
		}
		out[name] = v
	}
	return out
}

// of tells whether a mark is the volume's.
func (m mark) of(v datastore.Volume) bool {
	return m.ID == v.ID && m.UID == v.UID && m.ClusterID == v.ClusterID && m.Snapshot == v.Snapshot
}

// made is what Create and Expand answer for a volume.
func (m mark) made(vg *lvm.VolumeGroup, lv lvm.LogicalVolume) datastore.Made {
	made := datastore.Made{Bytes: lv.Bytes, Location: vg.Name + "/" + lv.Name, Identity: m.UID}
	if m.Snapshot {
		made.Bytes, made.Promised, made.TakenAt = m.Bytes, m.Promised, m.TakenAt
		return made
	}
	if lv.Kind == lvm.RAID {
		made.Takes = vg.Takes(lv.Name)
	}
	return made
}

// maxID and maxUID bound what a name on the storage is made of, in bytes.
const (
	maxID  = 63
	maxUID = 64
)

func checkNames(v datastore.Volume) error {
	if !plain(v.ID, maxID) {
		return fault.New(fault.Invalid, "volume ID %q is refused: it must be 1 to %d letters, digits, '-', '_' and '.', the first a letter or digit", shorten(v.ID), maxID)
	}
	if !plain(v.UID, maxUID) {
		return fault.New(fault.Invalid, "record UID %q of volume %q is refused: it must be 1 to %d letters, digits and '-'", shorten(v.UID), v.ID, maxUID)
	}
	return nil
}

// plain tells whether s is a name that means nothing special to anybody.
func plain(s string, limit int) bool {
	if s == "" || len(s) > limit || strings.ContainsRune("-_.", rune(s[0])) {
		return false
	}
	for _, r := range s {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("-_.", r):
		default:
			return false
		}
	}
	return true
}

// lvName is a volume's name in its group. LVM keeps names that begin with "snapshot" or "pvmove" for itself, and some that hold an
// underscore (lvm(8)), which is written as '+'.
func lvName(v datastore.Volume) string {
	name := strings.ReplaceAll(v.BackendName(), "_", "+")
	switch {
	case v.Snapshot:
		return "s-" + name
	case strings.HasPrefix(name, "snapshot"), strings.HasPrefix(name, "pvmove"):
		return "v-" + name
	}
	return name
}
