package gpt_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/blockdev"
	"github.com/datastore-csi/datastore-csi/pkg/linux/gpt"
)

// loop makes a loop device that the kernel doesn't scan for partitions, and opens it directly.
func loop(t *testing.T, size int64, sector int) *os.File {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	device := strings.TrimSpace(run(t, "losetup", "-f", "--show", "--sector-size", strconv.Itoa(sector), image))
	t.Cleanup(func() { runIn(t, "losetup", "-d", device) })
	disk, err := blockdev.Open(device, blockdev.Mode{Write: true, Direct: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		devices, err := gpt.Devices(disk)
		if err != nil {
			t.Error(err)
		}
		for _, d := range devices {
			runIn(t, "delpart", device, strconv.Itoa(d.Number))
		}
		_ = disk.Close() // the test is over
	})
	return disk
}

func run(t *testing.T, tool string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", tool, args, err, out)
	}
	return string(out)
}

// runIn is run in a cleanup, where the test's context has ended.
func runIn(t *testing.T, tool string, args ...string) {
	if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %v: %v: %s", tool, args, err, out)
	}
}

func TestSfdiskReadsWhatIsWritten(t *testing.T) {
	for _, c := range sizes {
		t.Run(c.name, func(t *testing.T) {
			disk := loop(t, c.bytes, c.sector)
			made := table(t, c.bytes, c.sector, 3)
			made.Partitions[1] = gpt.Partition{}
			if err := gpt.Init(t.Context(), disk, made); err != nil {
				t.Fatal(err)
			}
			if out := run(t, "sfdisk", "--verify", disk.Name()); !strings.Contains(out, "No errors detected") {
				t.Errorf("sfdisk --verify: %s", out)
			}
			var got struct {
				Table struct {
					Label, ID         string
					FirstLBA, LastLBA uint64
					SectorSize        int
					Partitions        []struct {
						Node, Type, UUID, Name string
						Start, Size            uint64
					}
				} `json:"partitiontable"`
			}
			if err := json.Unmarshal([]byte(run(t, "sfdisk", "--json", disk.Name())), &got); err != nil {
				t.Fatal(err)
			}
			p := got.Table
			if p.Label != "gpt" || !strings.EqualFold(p.ID, made.Disk.String()) || p.FirstLBA != made.FirstUsable || p.LastLBA != made.LastUsable ||
				p.SectorSize != c.sector || len(p.Partitions) != 2 {
				t.Fatalf("sfdisk reads %+v of %+v", p, made)
			}
			for i, number := range []int{1, 3} {
				want, is := made.Partitions[number-1], p.Partitions[i]
				if is.Start != want.First || is.Size != want.Last-want.First+1 || !strings.EqualFold(is.Type, want.Type.String()) ||
					!strings.EqualFold(is.UUID, want.ID.String()) || is.Name != want.Name() || !strings.HasSuffix(is.Node, fmt.Sprintf("p%d", number)) {
					t.Errorf("sfdisk reads %+v of %+v", is, want)
				}
			}
		})
	}
}

func TestWhatSfdiskWritesIsRead(t *testing.T) {
	for _, c := range sizes {
		t.Run(c.name, func(t *testing.T) {
			disk := loop(t, c.bytes, c.sector)
			script := exec.CommandContext(t.Context(), "sfdisk", "--no-reread", "--no-tell-kernel", disk.Name())
			script.Stdin = strings.NewReader("label: gpt\nlabel-id: " + diskID.String() + "\nsize=5MiB, name=\"größer\", attrs=\"RequiredPartition\"\nsize=7MiB, type=E6D6D379-F507-44C2-A23C-238F2A3DF928\n")
			if out, err := script.CombinedOutput(); err != nil {
				t.Fatalf("sfdisk: %v: %s", err, out)
			}
			got, flaws, err := gpt.Read(disk, c.bytes, c.sector)
			if err != nil || flaws.Any() {
				t.Fatalf("%v, %+v", err, flaws)
			}
			first, second := got.Partitions[0], got.Partitions[1]
			if got.Disk != diskID || first.Name() != "größer" || first.Attributes != 1 || got.Span(first).Bytes != 5<<20 ||
				got.Span(second).Bytes != 7<<20 || second.Type.String() != "e6d6d379-f507-44c2-a23c-238f2a3df928" || got.Partitions[2].Used() {
				t.Errorf("read %+v", got)
			}
			// Written again it is the same to sfdisk.
			before := run(t, "sfdisk", "--dump", disk.Name())
			if err := gpt.Write(t.Context(), disk, got); err != nil {
				t.Fatal(err)
			}
			if after := run(t, "sfdisk", "--dump", disk.Name()); after != before {
				t.Errorf("before:\n%safter:\n%s", before, after)
			}
			if out := run(t, "sfdisk", "--verify", disk.Name()); !strings.Contains(out, "No errors detected") {
				t.Errorf("sfdisk --verify: %s", out)
			}
		})
	}
}

func TestOnePartitionWhileItsNeighbourIsMounted(t *testing.T) {
	for _, c := range sizes {
		t.Run(c.name, func(t *testing.T) {
			disk := loop(t, c.bytes, c.sector)
			made := table(t, c.bytes, c.sector, 0)
			number := add(t, &made, "mounted", 16<<20)
			mounted := made.Span(made.Partitions[number-1])
			neighbour, err := gpt.Add(t.Context(), disk, number, mounted)
			if err != nil {
				t.Fatal(err)
			}
			run(t, "mkfs.ext4", "-q", neighbour.Path)
			dir := t.TempDir()
			if err := unix.Mount(neighbour.Path, dir, "ext4", 0, ""); err != nil {
				t.Fatal(err)
			}
			unmounted := false
			t.Cleanup(func() {
				if !unmounted {
					_ = unix.Unmount(dir, unix.MNT_DETACH) // the test failed already
				}
			})
			n := add(t, &made, "new", 8<<20)
			s := made.Span(made.Partitions[n-1])
			for range 2 { // again is success
				d, err := gpt.Add(t.Context(), disk, n, s)
				if err != nil || d.Span != s || d.Number != n {
					t.Fatalf("add: %+v, %v", d, err)
				}
				if size, err := blockdev.Size(d.Path); err != nil || size != s.Bytes {
					t.Fatalf("its size is %d, %v", size, err)
				}
			}
			if _, err := gpt.Add(t.Context(), disk, 7, gpt.Span{Start: mounted.Start + 4<<20, Bytes: 4 << 20}); !fault.Is(err, fault.Precondition) {
				t.Errorf("one over another: %v", err)
			}
			s.Bytes += 4 << 20
			if err := gpt.Resize(t.Context(), disk, n, s); err != nil {
				t.Fatal(err)
			}
			if d, ok, err := gpt.Find(disk, n); err != nil || !ok || d.Span != s {
				t.Errorf("grown: %+v, %v, %v", d, ok, err)
			}
			for range 2 {
				if err := gpt.Remove(t.Context(), disk, n); err != nil {
					t.Fatal(err)
				}
			}
			if err := gpt.Remove(t.Context(), disk, number); !fault.Is(err, fault.Precondition) {
				t.Errorf("the mounted one: %v", err)
			}
			mounted.Bytes += 8 << 20
			if err := gpt.Resize(t.Context(), disk, number, mounted); err != nil {
				t.Errorf("grow the mounted one: %v", err)
			}
			if size, err := blockdev.Size(neighbour.Path); err != nil || size != mounted.Bytes {
				t.Errorf("its size is %d, %v", size, err)
			}
			if err := os.WriteFile(filepath.Join(dir, "f"), []byte("still here"), 0o600); err != nil {
				t.Error(err)
			}
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
			unmounted = true
		})
	}
}

func TestSomebodyWhoOnlyLooksKeepsNoPartition(t *testing.T) {
	disk := loop(t, 64<<20, 512)
	made := table(t, 64<<20, 512, 0)
	n := add(t, &made, "v", 8<<20)
	d, err := gpt.Add(t.Context(), disk, n, made.Span(made.Partitions[n-1]))
	if err != nil {
		t.Fatal(err)
	}
	looker, err := os.Open(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := gpt.Remove(t.Context(), disk, n); !fault.Is(err, fault.Precondition) {
		t.Errorf("one that stays open: %v", err)
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = looker.Close() }) // only read
	if err := gpt.Remove(t.Context(), disk, n); err != nil {
		t.Errorf("one that is closed meanwhile: %v", err)
	}
}
