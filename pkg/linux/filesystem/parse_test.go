package filesystem

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseExport(t *testing.T) {
	for name, c := range map[string]struct {
		out  string
		want Signature
		fail bool
	}{
		"a file system":             {"DEVNAME=/dev/x\nUUID=u\nVERSION=1.0\nTYPE=ext4\nUSAGE=filesystem\n", Signature{Type: "ext4", UUID: "u"}, false},
		"a label with odd letters":  {"LABEL=a\\ b\\=\\\\c\nTYPE=xfs\n", Signature{Type: "xfs", Label: `a b=\c`}, false},
		"a table":                   {"DEVNAME=/dev/x\nPTUUID=u\nPTTYPE=dos\n", Signature{Type: "dos"}, false},
		"a file system and a table": {"TYPE=iso9660\nPTTYPE=dos\n", Signature{Type: "iso9660"}, false},
		"an empty partition":        {"DEVNAME=/dev/x1\nPART_ENTRY_SCHEME=gpt\nPART_ENTRY_UUID=u\n", Signature{}, false},
		"a partition that is used":  {"PART_ENTRY_SCHEME=gpt\nTYPE=swap\n", Signature{Type: "swap"}, false},
		"no output":                 {"", Signature{}, true},
		"a device and nothing else": {"DEVNAME=/dev/x\n", Signature{}, true},
		"a UUID without a type":     {"PART_ENTRY_SCHEME=gpt\nUUID=u\n", Signature{}, true},
		"an empty type":             {"TYPE=\n", Signature{}, true},
		"words":                     {"something else\nTYPE=ext4\n", Signature{}, true},
		"bytes that are no text":    {"TYPE=\xff\n", Signature{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseExport([]byte(c.out))
			if got != c.want || (err != nil) != c.fail {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func FuzzParseExport(f *testing.F) {
	f.Add("DEVNAME=/dev/x\nTYPE=ext4\nUUID=1\nLABEL=a\\ b\n")
	f.Add("PART_ENTRY_SCHEME=gpt\n")
	f.Add("PTTYPE=gpt\\")
	f.Fuzz(func(t *testing.T, out string) {
		sig, err := parseExport([]byte(out))
		if sig.Type == "" && sig != (Signature{}) {
			t.Errorf("no type but %+v", sig)
		}
		if err == nil && sig.Type == "" && !strings.Contains(out, "PART_ENTRY_") {
			t.Errorf("%q was taken for nothing", out)
		}
	})
}

func TestParseVersion(t *testing.T) {
	for out, want := range map[string]string{
		"mke2fs 1.47.0 (5-Feb-2023)\n\tUsing EXT2FS Library version 1.47.0\n": "1.47",
		"mke2fs 1.46-WIP (20-Mar-2020)":                                       "1.46",
		"mkfs.xfs version 6.1.0\n":                                            "6.1",
		"mkfs.xfs version 5.19.0-rc1":                                         "5.19",
		"hello.world, 1.x":                                                    "",
		"99999999999.1":                                                       "",
		"":                                                                    "",
	} {
		v, ok := parseVersion(out)
		if ok != (want != "") || ok && v.String() != want {
			t.Errorf("%q: got %v, %v", out, v, ok)
		}
	}
	if v := (version{5, 19}); v.before(5, 19) || v.before(4, 99) || !v.before(5, 20) || !v.before(6, 0) {
		t.Error("versions are compared wrongly")
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add("mkfs.xfs version 6.1.0\n")
	f.Add("1.2.3.4 -1.5 1.")
	f.Fuzz(func(t *testing.T, s string) {
		if v, ok := parseVersion(s); !ok && v != (version{}) || v.major < 0 || v.minor < 0 {
			t.Errorf("got %v, %v", v, ok)
		}
	})
}

func TestFeaturesFollowTheTool(t *testing.T) {
	for name, c := range map[string]struct {
		settings []setting
		want     string
	}{
		"xfsprogs 5.10": {xfsSettings(version{5, 10}), "-m crc=1,finobt=1,rmapbt=0,reflink=1,bigtime=1,inobtcount=1 -i sparse=1 -n ftype=1"},
		"xfsprogs 6.1":  {xfsSettings(version{6, 1}), "-m crc=1,finobt=1,rmapbt=0,reflink=1,bigtime=1,inobtcount=1 -i sparse=1,nrext64=0 -n ftype=1"},
		"xfsprogs 6.12": {xfsSettings(version{6, 12}), "-m crc=1,finobt=1,rmapbt=0,reflink=1,bigtime=1,inobtcount=1 -i sparse=1,nrext64=0,exchange=0 -n ftype=1,parent=0"},
		"xfsprogs 7.0":  {xfsSettings(version{7, 0}), "-m crc=1,finobt=1,rmapbt=0,reflink=1,bigtime=1,inobtcount=1,metadir=0 -i sparse=1,nrext64=0,exchange=0 -n ftype=1,parent=0"},
		"btrfs-progs 6.2": {
			btrfsSettings(parseFeatures([]byte("Filesystem features available:\nno-holes            - no explicit hole extents for files (compat=3.14)\n"))),
			"-s 4096 -n 16384 -m dup -d single --csum crc32c -O extref,skinny-metadata,no-holes -R free-space-tree",
		},
		"btrfs-progs 6.19": {
			btrfsSettings(parseFeatures([]byte("free-space-tree     - free space tree\nblock-group-tree    - block group tree (default=6.19)\n"))),
			"-s 4096 -n 16384 -m dup -d single --csum crc32c -O extref,skinny-metadata,no-holes,free-space-tree,^block-group-tree",
		},
	} {
		t.Run(name, func(t *testing.T) {
			styles := map[string]style{"-O": features, "-R": features}
			if strings.HasPrefix(name, "xfs") {
				styles = map[string]style{"-m": keyed, "-i": keyed, "-n": keyed}
			}
			if got := strings.Join(arguments(c.settings, styles), " "); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func FuzzParseFeatures(f *testing.F) {
	f.Add([]byte("Filesystem features available:\nmixed-bg            - mixed data\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		for name := range parseFeatures(out) {
			if name == "" || strings.ContainsAny(name, " \t\n") {
				t.Errorf("a feature's name is %q", name)
			}
		}
	})
}

func TestUsageIsBounded(t *testing.T) {
	got := usage(&unix.Statfs_t{Bsize: 4096, Blocks: 100, Bfree: 40, Bavail: 30, Files: 10, Ffree: 7})
	if want := (Usage{409600, 245760, 122880, 10, 3, 7}); got != want {
		t.Errorf("got %+v", got)
	}
	if got := usage(&unix.Statfs_t{Frsize: 512, Bsize: 4096, Blocks: 100}); got.TotalBytes != 51200 {
		t.Errorf("blocks are counted in fragments: %+v", got)
	}
	const most = 1<<63 - 1
	got = usage(&unix.Statfs_t{Bsize: 4096, Blocks: 1<<64 - 1, Bfree: 1, Bavail: 1 << 60, Files: 1<<64 - 1, Ffree: 1<<64 - 1})
	if want := (Usage{most, most, most, most, 0, most}); got != want {
		t.Errorf("got %+v", got)
	}
	if got := usage(&unix.Statfs_t{Bsize: 4096, Blocks: 5, Bfree: 9, Files: 5, Ffree: 9}); got.UsedBytes != 0 || got.UsedInodes != 0 {
		t.Errorf("more is free than there is: %+v", got)
	}
}
