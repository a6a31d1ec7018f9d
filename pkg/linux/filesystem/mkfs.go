package filesystem

import (
	"bytes"
	"context"
	"strconv"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

// command is the mkfs that makes f on path.
func (f Format) command(ctx context.Context, run *command.Runner, path string, options []setting) (command.Cmd, error) {
	switch f.Type {
	case Ext4:
		return f.ext4(ctx, run, path, options)
	case XFS:
		return f.xfs(ctx, run, path, options)
	default:
		return f.btrfs(ctx, run, path, options)
	}
}

// on and off are how the tools write a choice.
const (
	on  = "1"
	off = "0"
)

// ext4Settings are what mke2fs is told whatever the machine's mke2fs.conf says.
//
// The features are those that mke2fs has made by default since 1.43 (2016): all were in Linux 4.x.
// orphan_file (Linux 5.15), metadata_csum_seed and fast_commit are left out, so that e2fsprogs of every
// supported distribution can check and repair the result. Blocks have 4 KiB, which serves both sector
// sizes; inodes have 256 bytes, so times go beyond 2038. Nothing is reserved for root, since a volume has
// no daemons that must go on when it is full. After damage the kernel stops writing (remount-ro) instead
// of making it worse.
func ext4Settings() []setting {
	out := []setting{
		{"-b", "", "4096"},
		{"-I", "", "256"},
		{"-i", "", "16384"},
		{"-m", "", "0"},
		{"-e", "", "remount-ro"},
		{"-E", "lazy_itable_init", off},
		{"-E", "lazy_journal_init", off},
		{"-O", "none", ""}, // the list begins from nothing
	}
	for _, name := range []string{
		"has_journal", "ext_attr", "resize_inode", "dir_index", "filetype", "extent", "64bit", "flex_bg", "sparse_super",
		"large_file", "huge_file", "dir_nlink", "extra_isize", "metadata_csum",
	} {
		out = append(out, setting{"-O", name, ""})
	}
	return out
}

func (f Format) ext4(ctx context.Context, run *command.Runner, path string, options []setting) (command.Cmd, error) {
	list := append(ext4Settings(), setting{"-U", "", f.UUID}, setting{"-E", "nodiscard", ""})
	if f.Discard {
		list[len(list)-1].key = "discard"
	}
	if f.Label != "" {
		list = append(list, setting{"-L", "", f.Label})
	}
	if f.ProjectQuotas { // Linux 4.5; quotas of users and groups stay off
		list = append(list, setting{"-O", "quota", ""}, setting{"-O", "project", ""}, setting{"-E", "quotatype", "prjquota"})
	}
	if f.Lazy {
		list = overlay(list, []setting{{"-E", "lazy_itable_init", on}})
	}
	if f.Zeroed {
		version, err := toolVersion(ctx, run, "mke2fs")
		if err != nil {
			return command.Cmd{}, err
		}
		if !version.before(1, 47) { // older ones write the zeroes: slower, and as good
			list = append(list, setting{"-E", "assume_storage_prezeroed", on})
		}
	}
	args := arguments(overlay(list, options), map[string]style{"-O": features, "-E": keyed, "-J": keyed})
	return command.Cmd{
		// -t names a paragraph of the configuration and nothing else; of an empty one mke2fs takes only
		// ext2, and without -t it would choose ext3 for -J. The features make the ext4.
		Tool: "mke2fs", Args: append(append([]string{"-q", "-t", "ext2"}, args...), path),
		Env: []string{"MKE2FS_CONFIG=/dev/null"}, // mke2fs(8): instead of /etc/mke2fs.conf
	}, nil
}

// xfsSettings are what mkfs.xfs is told, so far as its version knows the choice.
//
// reflink, bigtime (times beyond 2038) and inobtcount are the newest: Linux 5.10. nrext64 (5.19), exchange
// and parent (6.10) and metadir (6.13), which newer versions switch on by themselves, are off; so is
// rmapbt, which costs writes and space and serves only online repair.
func xfsSettings(v version) []setting {
	out := []setting{
		{"-m", "crc", on},
		{"-m", "finobt", on},
		{"-m", "rmapbt", off},
		{"-m", "reflink", on},
		{"-m", "bigtime", on},
		{"-m", "inobtcount", on},
		{"-i", "sparse", on},
		{"-n", "ftype", on},
	}
	if !v.before(5, 19) {
		out = append(out, setting{"-i", "nrext64", off})
	}
	if !v.before(6, 10) {
		out = append(out, setting{"-i", "exchange", off}, setting{"-n", "parent", off})
	}
	if !v.before(6, 13) {
		out = append(out, setting{"-m", "metadir", off})
	}
	return out
}

func (f Format) xfs(ctx context.Context, run *command.Runner, path string, options []setting) (command.Cmd, error) {
	v, err := toolVersion(ctx, run, "mkfs.xfs")
	if err != nil {
		return command.Cmd{}, err
	}
	if v.before(5, 10) {
		return command.Cmd{}, fault.New(fault.Unavailable, "mkfs.xfs %s doesn't know bigtime and inobtcount: install xfsprogs 5.10 or later", v)
	}
	list := append(xfsSettings(v), setting{"-m", "uuid", f.UUID}, setting{"-s", "size", strconv.Itoa(f.SectorSize)})
	styles := map[string]style{"-m": keyed, "-i": keyed, "-s": keyed, "-b": keyed, "-d": keyed, "-l": keyed, "-n": keyed}
	if f.Label != "" {
		list = append(list, setting{"-L", "", f.Label})
	}
	return command.Cmd{Tool: "mkfs.xfs", Args: f.arguments(overlay(list, options), styles, path)}, nil
}

// btrfsSettings are what mkfs.btrfs is told; known are the features that it takes behind -O.
//
// The features are the defaults since btrfs-progs 5.15: no-holes (Linux 3.14) and free-space-tree (4.5)
// are the newest. block-group-tree (6.1), which newer versions switch on by themselves, is off. Blocks
// have 4 KiB on every architecture; metadata is written twice, data once. What setBtrfsUUID does needs
// Linux 5.0.
func btrfsSettings(known map[string]bool) []setting {
	out := []setting{
		{"-s", "", "4096"},
		{"-n", "", "16384"},
		{"-m", "", "dup"},
		{"-d", "", "single"},
		{"--csum", "", "crc32c"},
		{"-O", "extref", ""},
		{"-O", "skinny-metadata", ""},
		{"-O", "no-holes", ""},
	}
	if known["free-space-tree"] {
		out = append(out, setting{"-O", "free-space-tree", ""})
	} else {
		out = append(out, setting{"-R", "free-space-tree", ""}) // before 6.3 it stands in another list
	}
	if known["block-group-tree"] {
		out = append(out, setting{"-O", "block-group-tree", "^"})
	}
	return out
}

func (f Format) btrfs(ctx context.Context, run *command.Runner, path string, options []setting) (command.Cmd, error) {
	out, err := run.Fact(ctx, command.Cmd{Tool: "mkfs.btrfs", Args: []string{"-O", "list-all"}, Combined: true})
	if err != nil {
		return command.Cmd{}, err
	}
	list := btrfsSettings(parseFeatures(out)) // without the UUID: see setBtrfsUUID
	if f.Label != "" {
		list = append(list, setting{"-L", "", f.Label})
	}
	styles := map[string]style{"-O": features, "-R": features}
	return command.Cmd{Tool: "mkfs.btrfs", Args: f.arguments(overlay(list, options), styles, path)}, nil
}

// arguments are those of mkfs.xfs and mkfs.btrfs, which share -q and -K (no discard).
func (f Format) arguments(list []setting, styles map[string]style, path string) []string {
	args := []string{"-q"}
	if !f.Discard {
		args = append(args, "-K")
	}
	return append(append(args, arguments(list, styles)...), path)
}

// parseFeatures reads the names out of `mkfs.btrfs -O list-all`: "name   - what it is".
func parseFeatures(out []byte) map[string]bool {
	names := map[string]bool{}
	for line := range bytes.Lines(out) {
		name, _, ok := strings.Cut(string(line), " - ")
		if name = strings.TrimSpace(name); ok && name != "" && !strings.ContainsAny(name, " \t") {
			names[name] = true
		}
	}
	return names
}

// version is a tool's, as far as decisions need it.
type version struct{ major, minor int }

// before tells whether v is older than major.minor.
func (v version) before(major, minor int) bool {
	return v.major < major || v.major == major && v.minor < minor
}

func (v version) String() string { return strconv.Itoa(v.major) + "." + strconv.Itoa(v.minor) }

// toolVersion asks a tool for its version, once.
func toolVersion(ctx context.Context, run *command.Runner, tool string) (version, error) {
	out, err := run.Fact(ctx, command.Cmd{Tool: tool, Args: []string{"-V"}, Combined: true})
	if err != nil {
		return version{}, err
	}
	v, ok := parseVersion(string(out))
	if !ok {
		return version{}, fault.New(fault.Internal, "%s -V wrote %q, which holds no version", tool, shorten(string(out)))
	}
	return v, nil
}

// parseVersion finds the first word of the form 1.2 or 1.2.3, with anything behind it.
func parseVersion(s string) (version, bool) {
	for word := range strings.FieldsSeq(s) {
		parts := strings.SplitN(word, ".", 3)
		if len(parts) < 2 {
			continue
		}
		major, err := strconv.ParseUint(parts[0], 10, 16)
		if err != nil {
			continue
		}
		digits := strings.IndexFunc(parts[1], func(r rune) bool { return r < '0' || r > '9' })
		if digits < 0 {
			digits = len(parts[1])
		}
		if minor, err := strconv.ParseUint(parts[1][:digits], 10, 16); err == nil {
			return version{int(major), int(minor)}, true
		}
	}
	return version{}, false
}
