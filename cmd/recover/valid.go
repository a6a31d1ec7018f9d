package recover

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

// A mark is input from outside: anybody may have written it, a newer version too. What a record can't say is not
// taken over.

// incomplete says what a mark lacks to make a record of it, or says that no record can.
func incomplete(f datastore.Found) string {
	v := f.Volume
	id := controller.VolumeID(v.Name)
	if v.Snapshot {
		id = controller.SnapshotID(v.Name)
	}
	switch {
	case id != v.ID:
		return fmt.Sprintf("says name %.128q, which makes it %s and not %s", v.Name, id, v.ID)
	case v.UID == "":
		return "names no UID"
	case v.Bytes <= 0:
		return "names no size"
	}
	for _, problem := range []string{words(v), modes(v), formatted(v), labelled(v), copied(f)} {
		if problem != "" {
			return problem
		}
	}
	return ""
}

// words looks at what is one of a few words.
func words(v datastore.Volume) string {
	for _, w := range []struct {
		what, said string
		allowed    []string
	}{
		{"access", string(v.Access), []string{string(v1alpha1.Filesystem), string(v1alpha1.Block)}},
		{"format", string(v.Format), []string{string(v1alpha1.FormatImage), string(v1alpha1.FormatSubdirectory), string(v1alpha1.FormatDevice)}},
		{"provisioning", string(v.Provisioning), []string{string(v1alpha1.Thin), string(v1alpha1.Thick)}},
		{"quota", string(v.Quota), []string{"", string(v1alpha1.QuotaRequired), string(v1alpha1.QuotaNone)}},
		{"redundancy", string(v.Redundancy), []string{
			"", string(v1alpha1.RedundancyNone), string(v1alpha1.Mirror), string(v1alpha1.Parity), string(v1alpha1.DoubleParity),
		}},
		{"onDelete", string(v.OnDelete), []string{"", string(v1alpha1.DeleteData), string(v1alpha1.RetainData), string(v1alpha1.ArchiveData)}},
		{"wipe", string(v.Wipe), []string{string(v1alpha1.WipeDefault), string(v1alpha1.WipeNone), string(v1alpha1.WipeDiscard), string(v1alpha1.WipeZero)}},
	} {
		if !slices.Contains(w.allowed, w.said) {
			return fmt.Sprintf("names %s %.64q, which is not one of %q", w.what, w.said, w.allowed)
		}
	}
	return ""
}

// modes looks at the access modes, by their names in the CSI specification.
func modes(v datastore.Volume) string {
	known := []string{
		"SINGLE_NODE_WRITER", "SINGLE_NODE_READER_ONLY", "SINGLE_NODE_SINGLE_WRITER", "SINGLE_NODE_MULTI_WRITER",
		"MULTI_NODE_READER_ONLY", "MULTI_NODE_SINGLE_WRITER", "MULTI_NODE_MULTI_WRITER",
	}
	for _, m := range v.Modes {
		if !slices.Contains(known, m) {
			return fmt.Sprintf("names access mode %.64q, which is not known", m)
		}
	}
	return ""
}

// formatted looks at the file system.
func formatted(v datastore.Volume) string {
	fs := v.Filesystem
	bears := v.Access == v1alpha1.Filesystem && v.Format != v1alpha1.FormatSubdirectory
	switch {
	case fs == nil && bears:
		return "names no file system, which a volume that is mounted has"
	case fs == nil:
		return ""
	case !bears:
		return fmt.Sprintf("names file system %.64q, which volumes of access %s and format %s don't have", fs.Type, v.Access, v.Format)
	}
	if _, err := filesystem.ParseType(fs.Type); err != nil {
		return fmt.Sprintf("names file system %.64q: %v", fs.Type, err)
	}
	if _, err := uuid.Parse(fs.UUID); err != nil {
		return fmt.Sprintf("names file system UUID %.64q, which is none", fs.UUID)
	}
	return ""
}

// labelled looks at the labels.
func labelled(v datastore.Volume) string {
	for key, value := range v.Labels {
		if msgs := slices.Concat(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)); len(msgs) > 0 {
			return fmt.Sprintf("bears label %.64q=%.64q: %s", key, value, strings.Join(msgs, "; "))
		}
	}
	return ""
}

// copied looks at the source.
func copied(f datastore.Found) string {
	if f.Source == nil {
		if f.Volume.Snapshot {
			return "names no source, which every snapshot has"
		}
		return ""
	}
	check := controller.CheckID
	if f.Source.Snapshot {
		check = controller.CheckSnapshotID
	}
	if err := check(f.Source.ID); err != nil {
		return fmt.Sprintf("names a source that can't be: %v", err)
	}
	if f.Source.UID == "" {
		return fmt.Sprintf("names source %s without its UID", f.Source.ID)
	}
	return ""
}
