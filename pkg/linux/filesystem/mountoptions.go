package filesystem

import (
	"slices"
	"strings"
)

const maxMountOption = 128 // bytes of one mount flag

// switches are mount options without a value, as rules.
func switches(names ...string) []rule {
	out := make([]rule, len(names))
	for i, n := range names {
		out[i] = rule{style: single, key: n, ok: func(v string) bool { return v == "" }, shown: n}
	}
	return out
}

// mountRules is the allow-list of mount options. What it leaves out is on purpose: options that name
// another device or subvolume, that the driver sets itself (nouuid), that let a damaged or unreplayed
// file system be mounted (norecovery, noload, degraded), or that lose or show data after a crash
// (nobarrier, data=writeback, errors=panic).
func mountRules(t Type) []rule {
	// mount(8), "filesystem-independent mount options".
	out := switches("ro", "rw", "async", "sync", "dirsync", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime",
		"strictatime", "nostrictatime", "lazytime", "nolazytime", "exec", "noexec", "suid", "nosuid", "dev", "nodev",
		"nosymfollow", "discard", "nodiscard")
	switch t {
	case Ext4: // ext4(5), Documentation/admin-guide/ext4.rst
		return slices.Concat(out, switches("acl", "user_xattr", "delalloc", "nodelalloc", "auto_da_alloc", "journal_checksum",
			"dioread_lock", "dioread_nolock", "grpid", "nogrpid", "bsdgroups", "sysvgroups", "i_version"), []rule{
			choice("", keyed, "data", "ordered", "journal"),
			choice("", keyed, "errors", "remount-ro", "continue"),
			number("", keyed, "commit", 1, 300),
			number("", keyed, "stripe", 0, 1<<20),
			number("", keyed, "inode_readahead_blks", 0, 1<<20),
			number("", keyed, "max_batch_time", 0, 1000000), number("", keyed, "min_batch_time", 0, 1000000),
			number("", keyed, "journal_ioprio", 0, 7),
		})
	case XFS: // xfs(5), Documentation/admin-guide/xfs.rst
		return slices.Concat(out, switches("inode64", "largeio", "nolargeio", "swalloc", "noalign", "filestreams", "wsync", "grpid",
			"nogrpid", "bsdgroups", "sysvgroups"), []rule{
			choice("", keyed, "logbsize", "16k", "32k", "64k", "128k", "256k", "16384", "32768", "65536", "131072", "262144"),
			number("", keyed, "logbufs", 2, 8),
			amount("", keyed, "allocsize", 4*kib, gib),
			number("", keyed, "sunit", 0, 1<<20), number("", keyed, "swidth", 0, 1<<24),
		})
	case Btrfs: // btrfs(5)
		return slices.Concat(out, switches("acl", "autodefrag", "noautodefrag", "ssd", "nossd", "ssd_spread", "nossd_spread", "compress",
			"compress-force", "datacow", "nodatacow", "flushoncommit", "noflushoncommit", "treelog", "notreelog"), []rule{
			compression("compress"), compression("compress-force"),
			choice("", keyed, "discard", "async", "sync"),
			choice("", keyed, "space_cache", "v2"),
			number("", keyed, "commit", 1, 300),
			number("", keyed, "thread_pool", 1, 1024),
			amount("", keyed, "max_inline", 0, 64*kib),
		})
	case Tree: // mount_setattr(2): what each mount of a file system has for itself
		return switches("ro", "rw", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime",
			"nostrictatime", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "nosymfollow")
	}
	return nil
}

// compression allows btrfs's algorithms with the levels that each of them has.
func compression(key string) rule {
	levels := map[string]int64{"zlib": 9, "lzo": 0, "zstd": 15, "no": 0, "none": 0}
	return rule{"", keyed, key, func(v string) bool {
		name, level, leveled := strings.Cut(v, ":")
		most, known := levels[name]
		n, ok := decimal(level)
		return known && (!leveled || ok && n >= 1 && n <= most)
	}, "no|none|lzo|zlib[:1..9]|zstd[:1..15]"}
}

// MountOptions checks mount flags against the allow-list of the file system and returns them one by
// one, in their order and each once; a flag may hold several, joined by commas. Errors are
// fault.Invalid, name the option and list what is allowed.
func MountOptions(t Type, flags []string) ([]string, error) {
	const what = "mount option"
	rules := mountRules(t)
	if len(flags) > maxOptions {
		return nil, refuse(what, t, rules, "%d flags are more than %d", len(flags), maxOptions)
	}
	var out []string
	for _, flag := range flags {
		for option := range strings.SplitSeq(flag, ",") {
			key, v, isKeyed := strings.Cut(option, "=")
			as := single
			if isKeyed {
				as = keyed
			}
			fits := func(r rule) bool { return r.style == as && r.key == key && r.ok(v) }
			if len(option) > maxMountOption || !slices.ContainsFunc(rules, fits) {
				// A value may be a secret (CSI specification, mount_flags); a key is none.
				return nil, refuse(what, t, rules, "%q is not allowed, or not with that value", shorten(key))
			}
			if !slices.Contains(out, option) {
				out = append(out, option)
			}
		}
	}
	if len(out) > maxOptions {
		return nil, refuse(what, t, rules, "%d options are more than %d", len(out), maxOptions)
	}
	return out, nil
}
