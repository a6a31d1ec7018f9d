package lvm

import (
	"slices"
	"strconv"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/lvm"
)

// The tags of ours. What stands behind '=' in the first two is a list of fields.
const (
	ours       = "dcsi."
	markerTag  = ours + "pool="
	markTag    = ours + "mark." // dcsi.mark.1.2=... is the first of two pieces
	makingTag  = ours + "making"
	growingTag = ours + "growing"
	remainsTag = ours + "remainder="
	atTag      = ours + "at="
	sinceTag   = ours + "since="
	keptTag    = ours + "kept="
)

// piece is how much of a list of fields goes into one tag, in bytes. With its name it is shorter than the longest tag.
const piece = 960

// fields are names and values, written as "a=1&b=2". A name may hold anything, too.
type fields map[string]string

// encode writes fields in the order of their names.
func (f fields) encode() string {
	names := make([]string, 0, len(f))
	for name, value := range f {
		if value != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = lvm.EscapeTag(name) + "=" + lvm.EscapeTag(f[name])
	}
	return strings.Join(parts, "&")
}

// decode is the inverse of encode. What encode doesn't write is fault.Precondition.
func decode(s string) (fields, error) {
	f := fields{}
	for part := range strings.SplitSeq(s, "&") {
		name, value, ok := strings.Cut(part, "=")
		if !ok || value == "" {
			return nil, fault.New(fault.Precondition, "%q is no field", shorten(part))
		}
		name, err := lvm.UnescapeTag(name)
		if err != nil {
			return nil, fault.As(fault.Precondition, err)
		}
		if value, err = lvm.UnescapeTag(value); err != nil {
			return nil, fault.As(fault.Precondition, err)
		}
		if _, twice := f[name]; twice {
			return nil, fault.New(fault.Precondition, "field %q is there twice", shorten(name))
		}
		f[name] = value
	}
	return f, nil
}

// split writes a text as tags of that prefix.
func split(prefix, text string) []string {
	var pieces []string
	for len(text) > piece {
		pieces = append(pieces, text[:piece])
		text = text[piece:]
	}
	pieces = append(pieces, text)
	for i, p := range pieces {
		pieces[i] = prefix + strconv.Itoa(i+1) + "." + strconv.Itoa(len(pieces)) + "=" + p
	}
	return pieces
}

// maxPieces bounds how many tags one list of fields takes.
const maxPieces = 64

// join is the inverse of split: it finds its tags among others, in any order. None is fault.NotFound; one that is missing or there
// twice fault.Precondition.
func join(prefix string, tags []string) (string, error) {
	var pieces []string
	found := 0
	for _, t := range tags {
		rest, ok := strings.CutPrefix(t, prefix)
		if !ok {
			continue
		}
		place, text, ok := strings.Cut(rest, "=")
		i, n, dotted := strings.Cut(place, ".")
		index, err := strconv.Atoi(i)
		count, err2 := strconv.Atoi(n)
		if !ok || !dotted || err != nil || err2 != nil || index < 1 || index > count || count > maxPieces || pieces != nil && len(pieces) != count {
			return "", fault.New(fault.Precondition, "tag %q is no piece of a mark", shorten(t))
		}
		if pieces == nil {
			pieces = make([]string, count)
		}
		if pieces[index-1] != "" || text == "" {
			return "", fault.New(fault.Precondition, "piece %d of the mark is there twice, or empty", index)
		}
		pieces[index-1] = text
		found++
	}
	if found == 0 {
		return "", fault.New(fault.NotFound, "it bears no mark (%s...)", prefix)
	}
	if found < len(pieces) {
		return "", fault.New(fault.Precondition, "%d of %d pieces of the mark are missing", len(pieces)-found, len(pieces))
	}
	return strings.Join(pieces, ""), nil
}

// having returns the tags of a prefix.
func having(tags []string, prefix string) []string {
	var out []string
	for _, t := range tags {
		if strings.HasPrefix(t, prefix) {
			out = append(out, t)
		}
	}
	return out
}

// value is what stands behind the first tag of a prefix; "" where there is none.
func value(tags []string, prefix string) string {
	for _, t := range tags {
		if v, ok := strings.CutPrefix(t, prefix); ok {
			return v
		}
	}
	return ""
}

// number is value as a number from 0 on; what is none is 0.
func number(tags []string, prefix string) int64 {
	n, err := strconv.ParseInt(value(tags, prefix), 10, 64)
	if err != nil {
		return 0
	}
	return max(0, n)
}

// shorten bounds what of a stranger's text goes into an error.
func shorten(s string) string {
	const shown = 64
	if len(s) > shown {
		return strings.ToValidUTF8(s[:shown], "") + "..."
	}
	return s
}
