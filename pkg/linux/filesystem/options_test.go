package filesystem_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

func TestParseType(t *testing.T) {
	for _, fs := range all {
		if got, err := filesystem.ParseType(string(fs)); got != fs || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	for _, name := range []string{"", "EXT4", "ext3", " ext4", "zfs", strings.Repeat("x", 4096)} {
		got, err := filesystem.ParseType(name)
		if got != "" || !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "ext4, xfs, btrfs") || len(err.Error()) > 200 {
			t.Errorf("%.20q: got %q, %v", name, got, err)
		}
		if filesystem.MinSize(filesystem.Type(name)) != 0 {
			t.Errorf("%.20q has a least size", name)
		}
	}
}

func TestParseMkfsOptions(t *testing.T) {
	for name, c := range map[string]struct {
		fs   filesystem.Type
		s    string
		want string
	}{
		"none":                  {filesystem.Ext4, "  ", ""},
		"single values":         {filesystem.Ext4, "-i 8192  -m 1", "-i 8192 -m 1"},
		"lists are taken apart": {filesystem.XFS, "-m reflink=0,rmapbt=1 -i size=1024", "-m reflink=0 -m rmapbt=1 -i size=1024"},
		"features":              {filesystem.Ext4, "-O large_dir,^dir_index", "-O large_dir -O ^dir_index"},
		"of btrfs":              {filesystem.Btrfs, "-m single -n 32k", "-m single -n 32k"},
		"a flag in two places":  {filesystem.XFS, "-d agcount=4 -d su=64k,sw=4", "-d agcount=4 -d su=64k -d sw=4"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := filesystem.ParseMkfsOptions(c.fs, c.s)
			if err != nil || strings.Join(got, " ") != c.want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestParseMkfsOptionsRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		fs filesystem.Type
		s  string
	}{
		"force":                          {filesystem.XFS, "-f"},
		"force of ext4":                  {filesystem.Ext4, "-F"},
		"another device for the log":     {filesystem.XFS, "-l logdev=/dev/sda"},
		"another device for the data":    {filesystem.XFS, "-d name=/dev/sda"},
		"a file for the data":            {filesystem.XFS, "-d file=1"},
		"a real-time device":             {filesystem.XFS, "-r rtdev=/dev/sda"},
		"a configuration file":           {filesystem.XFS, "-c options=/etc/passwd"},
		"a prototype file":               {filesystem.XFS, "-p /etc/passwd"},
		"a journal device":               {filesystem.Ext4, "-J device=/dev/sda"},
		"a folder to copy from":          {filesystem.Ext4, "-d /etc"},
		"a folder of btrfs":              {filesystem.Btrfs, "--rootdir /etc"},
		"a checksum that we can't write": {filesystem.Btrfs, "--csum xxhash"},
		"an offset":                      {filesystem.Ext4, "-E offset=4096"},
		"a UUID":                         {filesystem.Ext4, "-U random"},
		"no journal":                     {filesystem.Ext4, "-O ^has_journal"},
		"no checksums":                   {filesystem.XFS, "-m crc=0"},
		"discard":                        {filesystem.Ext4, "-E discard"},
		"a word that is no flag":         {filesystem.Ext4, "/dev/sda"},
		"a second device":                {filesystem.Btrfs, "-d single /dev/sda"},
		"the end of options":             {filesystem.Ext4, "-- /dev/sda"},
		"a flag without its value":       {filesystem.Ext4, "-i"},
		"a flag in the place of a value": {filesystem.Ext4, "-i -F"},
		"a value that is stuck to it":    {filesystem.Ext4, "-i8192"},
		"a number with a sign":           {filesystem.Ext4, "-i +8192"},
		"a number that is too large":     {filesystem.Ext4, "-m 51"},
		"a number with a zero in front":  {filesystem.Ext4, "-m 010"},
		"a hexadecimal number":           {filesystem.XFS, "-d agcount=0x4"},
		"a size beyond all":              {filesystem.XFS, "-d agsize=99999999999999999999g"},
		"a size that wraps around":       {filesystem.XFS, "-d agsize=17179869184g"},
		"a list with a gap":              {filesystem.XFS, "-m reflink=0,,rmapbt=1"},
		"a key without a value":          {filesystem.XFS, "-m reflink"},
		"the same twice":                 {filesystem.XFS, "-m reflink=0,reflink=1"},
		"the same twice, apart":          {filesystem.Ext4, "-m 0 -m 1"},
		"a feature on and off":           {filesystem.Ext4, "-O large_dir,^large_dir"},
		"another's option":               {filesystem.Ext4, "-m reflink=0"},
		"NUL":                            {filesystem.Ext4, "-m 1\x00"},
		"a line of shell":                {filesystem.Ext4, "-m $(id)"},
		"too long":                       {filesystem.Ext4, strings.Repeat(" ", 1025)},
		"no file system":                 {"", "-m 1"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := filesystem.ParseMkfsOptions(c.fs, c.s)
			if got != nil || !fault.Is(err, fault.Invalid) {
				t.Fatalf("got %q, %v", got, err)
			}
			if c.fs != "" && !strings.Contains(err.Error(), "allowed are: -") || len(err.Error()) > 1500 {
				t.Errorf("got %v", err)
			}
		})
	}
}

func FuzzParseMkfsOptions(f *testing.F) {
	for _, s := range []string{"-i 8192 -O large_dir,^dir_index -E stride=4", "-m reflink=0,rmapbt=1 -d agsize=1g", "-n 32k -O ^no-holes", "-l logdev=/dev/x", ""} {
		for i := range all {
			f.Add(i, s)
		}
	}
	f.Fuzz(func(t *testing.T, i int, s string) {
		if i < 0 || i >= len(all) {
			return
		}
		got, err := filesystem.ParseMkfsOptions(all[i], s)
		if err != nil {
			if got != nil || !fault.Is(err, fault.Invalid) {
				t.Errorf("got %q, %v", got, err)
			}
			return
		}
		for n, word := range got {
			if (n%2 == 0) != strings.HasPrefix(word, "-") || strings.ContainsAny(word, "/ \x00\n") || word == "" {
				t.Errorf("word %d is %q", n, word)
			}
		}
		again, err := filesystem.ParseMkfsOptions(all[i], strings.Join(got, " "))
		if err != nil || !slices.Equal(again, got) {
			t.Errorf("again: %q, %v, was %q", again, err, got)
		}
	})
}

func TestMountOptions(t *testing.T) {
	for name, c := range map[string]struct {
		fs    filesystem.Type
		flags []string
		want  []string
	}{
		"none":                       {filesystem.Ext4, nil, nil},
		"in their order":             {filesystem.Ext4, []string{"noatime", "data=journal", "ro"}, []string{"noatime", "data=journal", "ro"}},
		"several in one":             {filesystem.XFS, []string{"noatime,logbsize=256k", "nodev"}, []string{"noatime", "logbsize=256k", "nodev"}},
		"each once":                  {filesystem.XFS, []string{"noatime", "noatime,nodev"}, []string{"noatime", "nodev"}},
		"compression with a level":   {filesystem.Btrfs, []string{"compress=zstd:3", "compress-force=lzo", "discard=async"}, []string{"compress=zstd:3", "compress-force=lzo", "discard=async"}},
		"a size":                     {filesystem.XFS, []string{"allocsize=1m"}, []string{"allocsize=1m"}},
		"of a directory":             {filesystem.Tree, []string{"noatime", "ro"}, []string{"noatime", "ro"}},
		"the same word with a value": {filesystem.Btrfs, []string{"discard", "compress"}, []string{"discard", "compress"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := filesystem.MountOptions(c.fs, c.flags)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestMountOptionsRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		fs    filesystem.Type
		flags []string
	}{
		"the empty option":               {filesystem.Ext4, []string{""}},
		"an empty one in a list":         {filesystem.Ext4, []string{"noatime,,ro"}},
		"bind":                           {filesystem.Ext4, []string{"bind"}},
		"remount":                        {filesystem.Ext4, []string{"remount"}},
		"loop":                           {filesystem.Ext4, []string{"loop"}},
		"another device":                 {filesystem.XFS, []string{"logdev=/dev/sda"}},
		"a journal's path":               {filesystem.Ext4, []string{"journal_path=/dev/sda"}},
		"another subvolume":              {filesystem.Btrfs, []string{"subvol=/"}},
		"a device of btrfs":              {filesystem.Btrfs, []string{"device=/dev/sda"}},
		"no recovery":                    {filesystem.XFS, []string{"norecovery"}},
		"no journal":                     {filesystem.Ext4, []string{"noload"}},
		"no barriers":                    {filesystem.Ext4, []string{"barrier=0"}},
		"stale data after a crash":       {filesystem.Ext4, []string{"data=writeback"}},
		"a panic":                        {filesystem.Ext4, []string{"errors=panic"}},
		"degraded":                       {filesystem.Btrfs, []string{"degraded"}},
		"a label of SELinux":             {filesystem.Ext4, []string{"context=x"}},
		"a value that it doesn't have":   {filesystem.Ext4, []string{"noatime=1"}},
		"an empty value":                 {filesystem.Ext4, []string{"noatime="}},
		"no value":                       {filesystem.Ext4, []string{"commit"}},
		"a level that isn't there":       {filesystem.Btrfs, []string{"compress=zstd:16"}},
		"a level for none":               {filesystem.Btrfs, []string{"compress=lzo:1"}},
		"another's option":               {filesystem.Ext4, []string{"allocsize=1m"}},
		"capitals":                       {filesystem.Ext4, []string{"NOATIME"}},
		"a space":                        {filesystem.Ext4, []string{"noatime "}},
		"NUL":                            {filesystem.Ext4, []string{"ro\x00"}},
		"a file system's of a directory": {filesystem.Tree, []string{"sync"}},
		"a type's of a directory":        {filesystem.Tree, []string{"data=journal"}},
		"too many flags":                 {filesystem.Ext4, slices.Repeat([]string{"ro"}, 65)},
		"a long one":                     {filesystem.Ext4, []string{"commit=" + strings.Repeat("0", 4096)}},
		"many in one":                    {filesystem.Ext4, []string{"commit=1,commit=2,commit=3" + manyCommits()}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := filesystem.MountOptions(c.fs, c.flags)
			if got != nil || !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "noatime") || len(err.Error()) > 1500 {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// manyCommits are more different options than are allowed.
func manyCommits() string {
	var b strings.Builder
	for c := 'a'; c <= 'b'; c++ {
		for i := '1'; i <= '9'; i++ {
			for j := '0'; j <= '9'; j++ {
				b.WriteString(",commit=" + string(i) + string(j))
			}
		}
	}
	return b.String()
}

func FuzzMountOptions(f *testing.F) {
	for _, s := range []string{"noatime,ro", "data=ordered", "compress=zstd:3", "allocsize=64k", "subvol=/x", ",", "commit=5"} {
		for i := range all {
			f.Add(i, s)
		}
	}
	f.Fuzz(func(t *testing.T, i int, s string) {
		if i < 0 || i >= len(all) {
			return
		}
		got, err := filesystem.MountOptions(all[i], []string{s, "noatime"})
		if err != nil {
			if got != nil || !fault.Is(err, fault.Invalid) {
				t.Errorf("got %q, %v", got, err)
			}
			return
		}
		for _, o := range got {
			if o == "" || strings.ContainsAny(o, ", /\x00\n") {
				t.Errorf("option %q", o)
			}
		}
	})
}

// Every option that the list allows is one that this machine's kernel takes.
func TestTheKernelTakesAllowedMountOptions(t *testing.T) {
	options := map[filesystem.Type][]string{
		filesystem.Ext4:  {"noatime,nodev,nosuid,lazytime,discard", "data=journal,nodelalloc", "data=ordered,errors=remount-ro,commit=30,stripe=8,journal_ioprio=2", "errors=continue,max_batch_time=1000,min_batch_time=0,inode_readahead_blks=16", "dioread_lock,grpid,auto_da_alloc,journal_checksum,acl,user_xattr,i_version"},
		filesystem.XFS:   {"inode64,largeio,swalloc,logbsize=256k,logbufs=8,allocsize=64k", "noalign,wsync,filestreams,grpid,nodiscard"},
		filesystem.Btrfs: {"compress=zstd:3,autodefrag,ssd,discard=async", "compress-force=lzo,nossd,space_cache=v2,commit=60,thread_pool=4,max_inline=2048", "nodatacow,flushoncommit,notreelog,acl", "compress=no"},
	}
	for _, fs := range all {
		device := attach(t, sparse(t, 512*mib))
		if err := filesystem.Make(t.Context(), runner(), device, format(fs)); err != nil {
			t.Fatal(err)
		}
		for _, list := range options[fs] {
			got, err := filesystem.MountOptions(fs, []string{list})
			if err != nil {
				t.Error(err)
				continue
			}
			dir := t.TempDir()
			do(t, "mount", "-o", strings.Join(got, ","), device, dir)
			do(t, "umount", dir)
		}
	}
}
