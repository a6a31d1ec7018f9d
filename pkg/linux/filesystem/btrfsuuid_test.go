package filesystem

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/command"
)

// btrfsImage is a btrfs with the tool's own UUID.
func btrfsImage(t *testing.T, size int64, options ...string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	must(t, append(append([]string{"mkfs.btrfs", "-q"}, options...), f.Name())...)
	return f
}

func must(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", argv, err, out)
	}
	return string(out)
}

func TestEveryBtrfsSuperblockGetsTheUUID(t *testing.T) {
	for name, c := range map[string]struct {
		size   int64
		copies int
	}{
		"two copies":   {256 * mib, 2},
		"three copies": {300 * gib, 3},
	} {
		t.Run(name, func(t *testing.T) {
			f := btrfsImage(t, c.size)
			old := field(must(t, "btrfs", "inspect-internal", "dump-super", f.Name()), "fsid")
			// A second change, and one that is repeated, keep what the blocks bear.
			one, two := uuid.New(), uuid.New()
			for _, u := range []uuid.UUID{one, two, two} {
				if err := writeBtrfsUUID(f, u); err != nil {
					t.Fatal(err)
				}
			}
			out := must(t, "btrfs", "inspect-internal", "dump-super", "-a", f.Name())
			if got := strings.Count(out, "[match]"); got != 3*c.copies { // of checksum, magic number and device
				t.Errorf("%d matches, want %d:\n%s", got, 3*c.copies, out)
			}
			if strings.Count(out, "\nfsid\t\t\t"+two.String()) != c.copies || strings.Count(out, "\nmetadata_uuid\t\t"+old) != c.copies {
				t.Errorf("want %s over %s in:\n%s", two, old, out)
			}
			must(t, "btrfs", "check", f.Name())
		})
	}
}

// field is the value of a line of `btrfs inspect-internal dump-super`.
func field(out, name string) string {
	for line := range strings.Lines(out) {
		if words := strings.Fields(line); len(words) == 2 && words[0] == name {
			return words[1]
		}
	}
	return ""
}

func TestABtrfsThatIsNotWholeGetsNoUUID(t *testing.T) {
	for name, c := range map[string]struct {
		options []string
		offset  int64 // of a byte that is changed; 0 = none
		want    string
	}{
		"another checksum":           {[]string{"--csum", "xxhash"}, 0, "of type 1, not crc32c"},
		"a damaged superblock":       {nil, btrfsOffset + 1000, "superblock at offset 65536: its checksum is wrong"},
		"a damaged copy":             {nil, 64*mib + 1000, "superblock at offset 67108864: its checksum is wrong"},
		"a copy that isn't one":      {nil, 64*mib + 64, "superblock at offset 67108864: it has no magic number"},
		"something that isn't btrfs": {nil, btrfsOffset + 64, "it bears no btrfs"},
	} {
		t.Run(name, func(t *testing.T) {
			f := btrfsImage(t, 256*mib, c.options...)
			if c.offset > 0 {
				if _, err := f.WriteAt([]byte{0xA5}, c.offset); err != nil {
					t.Fatal(err)
				}
			}
			before, err := readRegion(f, btrfsOffset, btrfsSize)
			if err != nil {
				t.Fatal(err)
			}
			err = writeBtrfsUUID(f, uuid.New())
			if !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
			if after, err := readRegion(f, btrfsOffset, btrfsSize); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the superblock was changed, %v", err)
			}
		})
	}
}

func FuzzChangeBtrfsUUID(f *testing.F) {
	f.Add(make([]byte, 100), uint16(0), []byte("0123456789abcdef"))
	f.Add([]byte{1, 2, 3}, uint16(188), []byte("fedcba9876543210"))
	f.Fuzz(func(t *testing.T, data []byte, at uint16, id []byte) {
		u, err := uuid.FromBytes(id)
		b := make([]byte, btrfsSize)
		if err != nil || int(at)+len(data) > len(b) {
			return
		}
		copy(b[at:], data)
		copy(b[64:], "_BHRfS_M")
		binary.LittleEndian.PutUint32(b, btrfsChecksum(b))
		before := bytes.Clone(b)
		if err := changeBtrfsUUID(b, u); err != nil {
			if !bytes.Equal(b, before) {
				t.Errorf("%v, and changed it", err)
			}
			return
		}
		if !bytes.Equal(b[btrfsFSID:btrfsFSID+16], u[:]) || binary.LittleEndian.Uint32(b) != btrfsChecksum(b) {
			t.Error("the UUID or the checksum isn't there")
		}
		for i := range b { // nothing else has changed
			known := i < btrfsFSID+16 || i >= btrfsIncompat && i < btrfsIncompat+8 || i >= btrfsMetadataUUID && i < btrfsMetadataUUID+16
			if b[i] != before[i] && !known {
				t.Errorf("byte %d has changed", i)
			}
		}
		again := bytes.Clone(b)
		if err := changeBtrfsUUID(again, u); err != nil || !bytes.Equal(again, b) {
			t.Errorf("again: %v", err)
		}
	})
}

func TestSetBtrfsUUIDRefusesWhatItCannotChange(t *testing.T) {
	run := command.New(command.Config{})
	f := btrfsImage(t, 256*mib)
	for _, id := range []string{"", "x", uuid.Nil.String()} {
		if err := SetBtrfsUUID(t.Context(), run, f.Name(), id); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: got %v", id, err)
		}
	}
	want := uuid.NewString()
	for range 2 {
		if err := SetBtrfsUUID(t.Context(), run, f.Name(), want); err != nil {
			t.Fatal(err)
		}
	}
	if got := field(must(t, "btrfs", "inspect-internal", "dump-super", f.Name()), "fsid"); got != want {
		t.Errorf("it has %s, want %s", got, want)
	}
	must(t, "btrfs", "check", "--readonly", f.Name())
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(256 * mib); err != nil {
		t.Fatal(err)
	}
	if err := SetBtrfsUUID(t.Context(), run, f.Name(), want); !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), f.Name()) {
		t.Errorf("blank: got %v", err)
	}
}
