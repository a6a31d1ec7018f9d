package harness

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A photo shows partitions as the table has them. The table is made by sfdisk(8), which knows nothing of us.
func TestAPhotoShowsThePartitionsOfADisk(t *testing.T) {
	disk := filepath.Join(Dir(t), "disk.img")
	if err := Run("truncate", "--size", "64M", disk); err != nil {
		t.Fatal(err)
	}
	camera := Camera{Views: []View{PartitionView(disk)}}
	photo := func() Photo {
		t.Helper()
		p, err := camera.Take()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	sfdisk := func(script string, args ...string) {
		t.Helper()
		cmd := exec.Command("sfdisk", append(append([]string{"--quiet"}, args...), disk)...)
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("sfdisk: %v\n%s", err, out)
		}
	}
	if p := photo(); len(p) > 0 {
		t.Errorf("a blank disk shows %v", p)
	}
	sfdisk("label: gpt\nstart=2048, size=16384, name=\"first ü\"\nstart=20480, size=8192\n")
	whole := photo()
	first := whole["partition 1 on "+disk]
	if len(whole) != 3 || !strings.Contains(first, "blocks 2048 to 18431") || !strings.Contains(first, `name "first ü"`) {
		t.Errorf("two partitions are shown as %v", whole)
	}
	if !strings.Contains(whole["partition table on "+disk], "copies alike true") {
		t.Errorf("a table that sfdisk made is shown as %q", whole["partition table on "+disk])
	}
	for _, c := range []struct{ args, shows string }{
		{"--part-label DISK 2 second", "partition 2"},
		{"--part-uuid DISK 2 01234567-89AB-CDEF-0123-456789ABCDEF", "partition 2"},
		{"--part-attrs DISK 1 RequiredPartition", "partition 1"},
		{"--delete DISK 2", "partition 2"},
	} {
		before := photo()
		args := strings.Fields(strings.ReplaceAll(c.args, "DISK", disk))
		if err := Run("sfdisk", append([]string{"--quiet"}, args...)...); err != nil {
			t.Fatal(err)
		}
		if diff := before.Diff(photo()); !strings.Contains(diff, c.shows) || strings.Count(diff, "\n") > 0 {
			t.Errorf("sfdisk %s: the photos differ by %q; want one line with %q", c.args, diff, c.shows)
		}
	}
	if err := BlankPart(disk, 512, 512); err != nil {
		t.Fatal(err)
	}
	if got := photo()["partition table on "+disk]; !strings.Contains(got, "copies alike false") {
		t.Errorf("a table whose first header is gone is shown as %q", got)
	}
}
