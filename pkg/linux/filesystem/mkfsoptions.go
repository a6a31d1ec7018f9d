package filesystem

import (
	"slices"
	"strings"
)

const (
	maxOptions      = 64   // of a list, and of mount flags
	maxOptionsBytes = 1024 // of a list as it is written
)

// mkfsRules is the allow-list of mkfs options. What it leaves out is on purpose: options that name
// another device or a path of the host (-d file=, -J device=, -l logdev=, -r rtdev=), that force, that
// need a newer kernel than Make promises or one that is built for it (quota, verity, casefold), that make
// a file system less safe (no journal, no checksums), and those that the driver sets itself (UUID, label, sector size, discard).
func mkfsRules(t Type) []rule {
	switch t {
	case Ext4: // mke2fs(8), ext4(5)
		return []rule{
			choice("-b", single, "", "1024", "2048", "4096"),
			number("-i", single, "", 1024, 64*mib),
			choice("-I", single, "", "256", "512", "1024"),
			number("-N", single, "", 16, 1<<32-1),
			number("-m", single, "", 0, 50),
			number("-E", keyed, "stride", 1, 1<<20),
			number("-E", keyed, "stripe_width", 1, 1<<20),
			number("-J", keyed, "size", 4, 10240),
			feature("-O", "dir_index"), feature("-O", "ea_inode"), feature("-O", "inline_data"), feature("-O", "large_dir"),
		}
	case XFS: // mkfs.xfs(8)
		return []rule{
			choice("-b", keyed, "size", "1024", "2048", "4096", "1k", "2k", "4k"),
			number("-d", keyed, "agcount", 1, 1<<20),
			amount("-d", keyed, "agsize", 16*mib, 1024*gib),
			amount("-d", keyed, "su", 4*kib, gib), number("-d", keyed, "sw", 1, 1024),
			choice("-i", keyed, "size", "512", "1024", "2048"),
			number("-i", keyed, "maxpct", 0, 100),
			amount("-l", keyed, "size", 2*mib, 2*gib-mib), amount("-l", keyed, "su", 4*kib, 256*kib),
			choice("-m", keyed, "finobt", "0", "1"), choice("-m", keyed, "reflink", "0", "1"), choice("-m", keyed, "rmapbt", "0", "1"),
			choice("-n", keyed, "size", "4096", "8192", "16384", "32768", "65536", "4k", "8k", "16k", "32k", "64k"),
		}
	case Btrfs: // mkfs.btrfs(8)
		return []rule{
			choice("-n", single, "", "4096", "8192", "16384", "32768", "65536", "4k", "8k", "16k", "32k", "64k"),
			choice("-m", single, "", "single", "dup"),
			choice("-d", single, "", "single", "dup"),
			feature("-O", "extref"), feature("-O", "no-holes"), feature("-O", "skinny-metadata"),
		}
	}
	return nil
}

// ParseMkfsOptions parses a StorageClass's mkfsOptions, separated by spaces, against the allow-list of
// the file system: each flag is followed by its value as a word of its own, lists are joined by commas
// ("-i size=1024 -m reflink=0,rmapbt=1"). The result goes into Format.Options and is one flag and one
// choice at a time. Errors are fault.Invalid and list what is allowed.
func ParseMkfsOptions(t Type, s string) ([]string, error) {
	list, err := parseSettings(t, s)
	if err != nil {
		return nil, err
	}
	var out []string
	styles := ruleStyles(mkfsRules(t))
	for _, s := range list {
		out = append(out, s.flag, s.item(styles[s.flag]))
	}
	return out, nil
}

// ruleStyles tells the style of each flag that rules know.
func ruleStyles(rules []rule) map[string]style {
	out := make(map[string]style, len(rules))
	for _, r := range rules {
		out[r.flag] = r.style
	}
	return out
}

// parseSettings is ParseMkfsOptions before the settings are written out again.
func parseSettings(t Type, s string) ([]setting, error) {
	const what = "mkfsOptions"
	rules := mkfsRules(t)
	styles := ruleStyles(rules)
	if len(s) > maxOptionsBytes {
		return nil, refuse(what, t, rules, "%d bytes are more than %d", len(s), maxOptionsBytes)
	}
	words := strings.Fields(s)
	var out []setting
	for i := 0; i < len(words); i += 2 {
		flag := words[i]
		as, known := styles[flag]
		switch {
		case !known:
			return nil, refuse(what, t, rules, "%q is not allowed", shorten(flag))
		case i+1 == len(words):
			return nil, refuse(what, t, rules, "%s has no value behind it", flag)
		}
		for _, one := range split(flag, words[i+1], as) {
			if !allowed(rules, one) {
				return nil, refuse(what, t, rules, "%q is not allowed for %s", shorten(one.item(as)), flag)
			}
			if slices.ContainsFunc(out, func(e setting) bool { return e.flag == one.flag && e.key == one.key }) {
				return nil, refuse(what, t, rules, "%s %s is set twice", flag, one.item(as))
			}
			out = append(out, one)
		}
	}
	if len(out) > maxOptions {
		return nil, refuse(what, t, rules, "%d options are more than %d", len(out), maxOptions)
	}
	return out, nil
}

// allowed tells whether a rule allows a setting as it is.
func allowed(rules []rule, s setting) bool {
	return slices.ContainsFunc(rules, func(r rule) bool { return r.flag == s.flag && r.key == s.key && r.ok(s.value) })
}
