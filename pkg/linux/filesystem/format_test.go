package filesystem_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

func TestMakeOnAFreshImageFile(t *testing.T) {
	// What a sparse image of 1 GiB may take afterwards: ext4 writes its descriptors, xfs clears a log
	// of 64 MiB, btrfs writes its first chunks twice.
	most := map[filesystem.Type]int64{filesystem.Ext4: mib, filesystem.XFS: 65 * mib, filesystem.Btrfs: 6 * mib}
	for _, fs := range all {
		for _, sector := range []int{512, 4096} {
			t.Run(fmt.Sprintf("%s with sectors of %d", fs, sector), func(t *testing.T) {
				image := sparse(t, gib)
				f := format(fs)
				f.SectorSize, f.Label = sector, "data-1"
				began := time.Now()
				if err := filesystem.Make(t.Context(), runner(), image, f); err != nil {
					t.Fatal(err)
				}
				t.Logf("made in %v, %d KiB allocated", time.Since(began).Round(time.Millisecond/10), allocated(t, image)/1024)
				if got := allocated(t, image); got > most[fs] {
					t.Errorf("%d bytes are allocated, want at most %d", got, most[fs])
				}
				sig, err := filesystem.Probe(t.Context(), runner(), image)
				if want := (filesystem.Signature{Type: string(fs), UUID: f.UUID, Label: "data-1", Bytes: gib}); err != nil || sig != want {
					t.Errorf("got %+v, %v", sig, err)
				}
				device := attach(t, image, "--sector-size", fmt.Sprint(sector))
				if err := filesystem.Check(t.Context(), runner(), device, fs); err != nil {
					t.Error(err)
				}
				dir := mounted(t, device)
				if err := os.WriteFile(filepath.Join(dir, "file"), bytes.Repeat([]byte("x"), 1<<20), 0o600); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestMakeOnABlockDevice(t *testing.T) {
	for _, fs := range all {
		for _, sector := range []string{"512", "4096"} {
			t.Run(string(fs)+" with sectors of "+sector, func(t *testing.T) {
				device := attach(t, sparse(t, 512*mib), "--sector-size", sector)
				f := format(fs)
				f.SectorSize, f.Zeroed, f.Discard = 0, false, true
				if err := filesystem.Make(t.Context(), runner(), device, f); err != nil {
					t.Fatal(err)
				}
				usage, err := filesystem.Stat(mounted(t, device))
				if err != nil || usage.TotalBytes < 400*mib || usage.TotalBytes > 512*mib {
					t.Errorf("got %+v, %v", usage, err)
				}
			})
		}
	}
}

func TestTheLeastVolumeCanBeUsed(t *testing.T) {
	for _, fs := range all {
		t.Run(string(fs), func(t *testing.T) {
			image := sparse(t, filesystem.MinSize(fs))
			if err := filesystem.Make(t.Context(), runner(), image, format(fs)); err != nil {
				t.Fatal(err)
			}
			dir := mounted(t, attach(t, image))
			usage, err := filesystem.Stat(dir)
			if err != nil || usage.AvailableBytes < filesystem.MinSize(fs)/2 {
				t.Errorf("got %+v, %v", usage, err)
			}
			half := make([]byte, filesystem.MinSize(fs)/2)
			if err := os.WriteFile(filepath.Join(dir, "file"), half, 0o600); err != nil {
				t.Error(err)
			}
			if fs == filesystem.Ext4 && !strings.Contains(do(t, "dumpe2fs", "-h", image), "has_journal") {
				t.Error("there is no journal")
			}
		})
	}
}

func TestAThickImageStaysThick(t *testing.T) {
	for _, fs := range all {
		t.Run(string(fs), func(t *testing.T) {
			image := thick(t, 512*mib)
			if err := filesystem.Make(t.Context(), runner(), image, format(fs)); err != nil {
				t.Fatal(err)
			}
			if got := allocated(t, image); got < 512*mib {
				t.Errorf("after mkfs %d bytes are allocated", got)
			}
			dir := mounted(t, attach(t, image))
			if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, mib), 0o600); err != nil {
				t.Error(err)
			}
			do(t, "sync", "-f", dir)
			if got := allocated(t, image); got < 512*mib {
				t.Errorf("after use %d bytes are allocated", got)
			}
		})
	}
}

func TestFeaturesAreOursWhateverTheMachineSays(t *testing.T) {
	features := func(out string) []string {
		_, line, _ := strings.Cut(out, "Filesystem features:")
		line, _, _ = strings.Cut(line, "\n")
		return strings.Fields(line)
	}
	image := sparse(t, gib)
	if err := filesystem.Make(t.Context(), runner(), image, format(filesystem.Ext4)); err != nil {
		t.Fatal(err)
	}
	out := do(t, "dumpe2fs", "-h", image)
	want := strings.Fields("has_journal ext_attr resize_inode dir_index filetype extent 64bit flex_bg sparse_super large_file huge_file dir_nlink extra_isize metadata_csum")
	if got := features(out); !slices.Equal(got, want) {
		t.Errorf("ext4 has %q", got)
	}
	for _, line := range []string{
		"Reserved block count:     0", "Errors behavior:          Remount read-only", "Block size:               4096",
		"Inode size:	          256", "Maximum mount count:      -1", "Inode count:              65536",
	} {
		if !strings.Contains(out, line+"\n") {
			t.Errorf("ext4 lacks %q in:\n%s", line, out)
		}
	}
	image = sparse(t, gib)
	if err := filesystem.Make(t.Context(), runner(), image, format(filesystem.XFS)); err != nil {
		t.Fatal(err)
	}
	out = do(t, "xfs_db", "-r", "-c", "version", image)
	if want := "V5,NLINK,DIRV2,ALIGN,LOGV2,EXTFLG,MOREBITS,ATTR2,LAZYSBCOUNT,PROJID32BIT,CRC,FTYPE,FINOBT,SPARSE_INODES,REFLINK,INOBTCNT,BIGTIME"; !strings.HasSuffix(out, "= "+want+"\n") {
		t.Errorf("xfs has %q, want %q", out, want)
	}
	image = sparse(t, gib)
	if err := filesystem.Make(t.Context(), runner(), image, format(filesystem.Btrfs)); err != nil {
		t.Fatal(err)
	}
	out = do(t, "btrfs", "inspect-internal", "dump-super", image)
	for _, line := range []string{"csum_type\t\t0 (crc32c)", "incompat_flags\t\t0x741", "compat_ro_flags\t\t0x3", "sectorsize\t\t4096", "nodesize\t\t16384"} {
		if !strings.Contains(out, line+"\n") {
			t.Errorf("btrfs lacks %q in:\n%s", line, out)
		}
	}
}

func TestMakeRefusesWhatIsNotBlank(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, image string)
		want    string
	}{
		"ext4":                   {func(t *testing.T, image string) { do(t, "mke2fs", "-q", "-t", "ext4", image) }, "it bears ext4 with UUID"},
		"ext2":                   {func(t *testing.T, image string) { do(t, "mke2fs", "-q", "-t", "ext2", image) }, "it bears ext2 with UUID"},
		"xfs":                    {func(t *testing.T, image string) { do(t, "mkfs.xfs", "-q", image) }, "it bears xfs with UUID"},
		"btrfs":                  {func(t *testing.T, image string) { do(t, "mkfs.btrfs", "-q", image) }, "it bears btrfs with UUID"},
		"swap":                   {func(t *testing.T, image string) { do(t, "mkswap", image) }, "it bears swap with UUID"},
		"a partition table":      {func(t *testing.T, image string) { do(t, "sh", "-c", "echo label:gpt | sfdisk -q "+image) }, "it bears gpt"},
		"a DOS partition table":  {func(t *testing.T, image string) { do(t, "sh", "-c", "echo label:dos | sfdisk -q "+image) }, "it bears dos"},
		"an LVM physical volume": {func(t *testing.T, image string) { write(t, image, 512, lvmLabel()) }, "it bears LVM2_member"},
		"two signatures": {func(t *testing.T, image string) {
			do(t, "mkfs.xfs", "-q", image)
			write(t, image, 65600, []byte("_BHRfS_M"))
		}, "superblocks of xfs and btrfs"},
		"data at the beginning": {func(t *testing.T, image string) { write(t, image, 5, []byte("x")) }, "doesn't read as zeroes"},
		"data at the end":       {func(t *testing.T, image string) { write(t, image, 512*mib-1, []byte("x")) }, "doesn't read as zeroes"},
		"data in the middle":    {func(t *testing.T, image string) { write(t, image, 64*mib, []byte("x")) }, "doesn't read as zeroes"},
	} {
		t.Run(name, func(t *testing.T) {
			image := sparse(t, 512*mib)
			c.prepare(t, image)
			before := digest(t, image)
			for _, fs := range all {
				err := filesystem.Make(t.Context(), runner(), image, format(fs))
				if !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), image) {
					t.Errorf("%s: %v", fs, err)
				}
				if after := digest(t, image); after != before {
					t.Errorf("%s: the image was changed", fs)
				}
			}
		})
	}
}

// lvmLabel is the beginning of an LVM physical volume: label header and physical volume header.
func lvmLabel() []byte {
	b := make([]byte, 512)
	copy(b, "LABELONE")
	b[8] = 1                              // the label's sector
	copy(b[20:], "\x20\x00\x00\x00")      // offset of what follows
	copy(b[24:], "LVM2 001")              //
	copy(b[32:], strings.Repeat("a", 32)) // UUID
	crc := uint32(0xf597a6cf)
	for _, c := range b[20:] {
		crc ^= uint32(c)
		for range 8 {
			crc = crc>>1 ^ 0xedb88320*(crc&1)
		}
	}
	b[16], b[17], b[18], b[19] = byte(crc), byte(crc>>8), byte(crc>>16), byte(crc>>24)
	return b
}

func TestMakeAgainRefusesWhatItMade(t *testing.T) {
	for _, fs := range all {
		image := sparse(t, 512*mib)
		if err := filesystem.Make(t.Context(), runner(), image, format(fs)); err != nil {
			t.Fatal(err)
		}
		if err := filesystem.Make(t.Context(), runner(), image, format(fs)); !fault.Is(err, fault.Precondition) {
			t.Errorf("%s: %v", fs, err)
		}
	}
}

func TestMakeRefusesAnImpossibleFormat(t *testing.T) {
	image := sparse(t, 512*mib)
	for name, c := range map[string]struct {
		change func(f *filesystem.Format)
		path   string
		kind   fault.Kind
	}{
		"no type":                          {func(f *filesystem.Format) { f.Type = "" }, image, fault.Invalid},
		"an unknown type":                  {func(f *filesystem.Format) { f.Type = "ntfs" }, image, fault.Invalid},
		"no UUID":                          {func(f *filesystem.Format) { f.UUID = "" }, image, fault.Invalid},
		"mke2fs's word for a UUID":         {func(f *filesystem.Format) { f.UUID = "random" }, image, fault.Invalid},
		"the UUID of nobody":               {func(f *filesystem.Format) { f.UUID = "00000000-0000-0000-0000-000000000000" }, image, fault.Invalid},
		"a UUID in capitals":               {func(f *filesystem.Format) { f.UUID = "AAAAAAAA-2222-4333-8444-555555555555" }, image, fault.Invalid},
		"a label that is too long":         {func(f *filesystem.Format) { f.Label = strings.Repeat("x", 17) }, image, fault.Invalid},
		"a label with a comma":             {func(f *filesystem.Format) { f.Label = "a,b" }, image, fault.Invalid},
		"no sector size for a file":        {func(f *filesystem.Format) { f.SectorSize = 0 }, image, fault.Invalid},
		"an odd sector size":               {func(f *filesystem.Format) { f.SectorSize = 1000 }, image, fault.Invalid},
		"an option that isn't ours":        {func(f *filesystem.Format) { f.Options = []string{"-F", "1"} }, image, fault.Invalid},
		"blocks smaller than sectors":      {func(f *filesystem.Format) { f.SectorSize = 4096; f.Options = []string{"-b", "1024"} }, image, fault.Invalid},
		"a relative path":                  {func(*filesystem.Format) {}, "disk.img", fault.Invalid},
		"a path that looks like an option": {func(*filesystem.Format) {}, "-F", fault.Invalid},
		"a folder":                         {func(*filesystem.Format) {}, filepath.Dir(image), fault.Precondition},
		"a character device":               {func(*filesystem.Format) {}, "/dev/null", fault.Precondition},
		"a path that isn't there":          {func(*filesystem.Format) {}, "/nowhere/disk.img", fault.Unavailable},
		"an empty file":                    {func(*filesystem.Format) {}, sparse(t, 0), fault.OutOfRange},
		"a file that is too small":         {func(*filesystem.Format) {}, sparse(t, filesystem.MinSize(filesystem.Ext4)-1), fault.OutOfRange},
	} {
		t.Run(name, func(t *testing.T) {
			f := format(filesystem.Ext4)
			c.change(&f)
			err := filesystem.Make(t.Context(), runner(), c.path, f)
			if !fault.Is(err, c.kind) {
				t.Errorf("got %v, %v", fault.KindOf(err), err)
			}
		})
	}
	if allocated(t, image) > 0 {
		t.Error("something was written")
	}
	device := attach(t, image, "--sector-size", "4096")
	if err := filesystem.Make(t.Context(), runner(), device, format(filesystem.Ext4)); !fault.Is(err, fault.Invalid) {
		t.Errorf("sectors smaller than the device's: %v", err)
	}
}

func TestMakeIsOneStepAndNamesWhatFails(t *testing.T) {
	var points []string
	ctx := step.WithHook(t.Context(), func(_, what string) { points = append(points, what) })
	image := sparse(t, gib)
	if err := filesystem.Make(ctx, runner(), image, format(filesystem.XFS)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(points, []string{"make xfs on " + image}) {
		t.Errorf("points %q", points)
	}
	image = sparse(t, gib)
	for name, c := range map[string]struct {
		run  *command.Runner
		want string
	}{
		"mkfs isn't installed":             {fakeTool(t, "other", ""), "mkfs.xfs is missing"},
		"mkfs is too old":                  {fakeTool(t, "mkfs.xfs", "echo mkfs.xfs version 5.4.0"), "install xfsprogs 5.10 or later"},
		"mkfs tells no version":            {fakeTool(t, "mkfs.xfs", "echo hello"), "holds no version"},
		"mkfs fails":                       {fakeTool(t, "mkfs.xfs", `[ "$1" = -V ] && echo mkfs.xfs version 6.0.0 || { echo broken >&2; exit 1; }`), "exit status 1: broken"},
		"mkfs does nothing, and says well": {fakeTool(t, "mkfs.xfs", "echo mkfs.xfs version 6.0.0"), "left no signature"},
	} {
		t.Run(name, func(t *testing.T) {
			err := filesystem.Make(t.Context(), c.run, image, format(filesystem.XFS))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), image) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestADeviceThatIsSwappedAfterTheProbeIsNotFormatted(t *testing.T) {
	for _, fs := range all {
		image, other := sparse(t, 512*mib), sparse(t, 512*mib)
		write(t, image, 300*mib+512, []byte{0}) // no hole any more: blkid is asked
		before := digest(t, other)
		// This blkid finds nothing, and puts another file in the place of the one that it was asked about.
		run := fakeTool(t, "blkid", "mv "+image+" "+image+".away && ln "+other+" "+image+" && exit 2",
			"mke2fs", "mkfs.xfs", "mkfs.btrfs")
		f := format(fs)
		err := filesystem.Make(t.Context(), run, image, f)
		if digest(t, other) != before {
			t.Errorf("%s: the other device was written to (%v)", fs, err)
		}
		if sig, e := filesystem.Probe(t.Context(), runner(), image+".away"); err != nil || e != nil || sig.UUID != f.UUID {
			t.Errorf("%s: %v, then %v, %v", fs, err, sig, e)
		}
	}
}

func TestUserOptionsTakeThePlaceOfOurs(t *testing.T) {
	for name, c := range map[string]struct {
		fs      filesystem.Type
		options string
		show    []string
		want    []string
	}{
		"ext4": {
			filesystem.Ext4, "-b 1024 -i 8192 -I 512 -m 5 -E stride=4,stripe_width=8 -O large_dir,^dir_index -J size=8",
			[]string{"dumpe2fs", "-h"},
			[]string{
				"Block size:               1024", "Inode size:	          512", "Reserved block count:     26214", "RAID stride:              4",
				"RAID stripe width:        8", "large_dir", "metadata_csum", "Total journal size:       8M",
			},
		},
		"xfs": {
			filesystem.XFS, "-i size=1024 -m reflink=0,rmapbt=1 -d agcount=3 -l size=64m -n size=8k -b size=2k",
			[]string{"xfs_db", "-r", "-c", "sb 0", "-c", "p agcount inodesize blocksize dirblklog logblocks", "-c", "version"},
			[]string{"agcount = 3", "inodesize = 1024", "blocksize = 2048", "dirblklog = 2", "logblocks = 32768", "RMAPBT"},
		},
		"btrfs": {
			filesystem.Btrfs, "-n 32k -m single -d dup -O ^no-holes",
			[]string{"btrfs", "inspect-internal", "dump-super"},
			[]string{"nodesize\t\t32768", "incompat_flags\t\t0x541"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			image := sparse(t, 512*mib)
			f := format(c.fs)
			var err error
			if f.Options, err = filesystem.ParseMkfsOptions(c.fs, c.options); err != nil {
				t.Fatal(err)
			}
			if err := filesystem.Make(t.Context(), runner(), image, f); err != nil {
				t.Fatal(err)
			}
			var out string
			if c.fs == filesystem.XFS {
				out = do(t, slices.Concat(c.show, []string{image})...)
			} else {
				out = do(t, append(slices.Clone(c.show), image)...)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("want %q in:\n%s", want, out)
				}
			}
			if strings.Contains(out, "dir_index") || strings.Contains(out, "REFLINK") {
				t.Errorf("what was switched off is there:\n%s", out)
			}
			mounted(t, attach(t, image))
		})
	}
}

func TestOptionsThatCannotBeHadTogetherAreInvalid(t *testing.T) {
	for name, c := range map[string]struct {
		fs      filesystem.Type
		options string
	}{
		"more inodes than room": {filesystem.Ext4, "-N 4000000000"},
		"a journal too large":   {filesystem.Ext4, "-J size=10240"},
	} {
		t.Run(name, func(t *testing.T) {
			options, err := filesystem.ParseMkfsOptions(c.fs, c.options)
			if err != nil {
				t.Fatal(err)
			}
			err = filesystem.Make(t.Context(), runner(), sparse(t, 64*mib), filesystem.Format{
				Type: c.fs, UUID: someUUID, SectorSize: 512, Zeroed: true, Options: options,
			})
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("got %v (%v)", err, fault.KindOf(err))
			}
		})
	}
}
