package gpt_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/gpt"
)

var (
	space  = uuid.MustParse("b9d1a6a0-7f0c-4c55-8d0a-6b7a5d1d8f11")
	linux  = gpt.MustParse("0fc63daf-8483-4772-8e79-3d69d8477de4")
	diskID = gpt.Derived(space, "disk")
)

// memory is a disk that keeps every sector that was written to it since, by flushes.
type memory struct {
	bytes  []byte
	sector int
	// writes are the sectors that were written between two flushes.
	writes [][]write
	bad    map[int64]bool // sectors that can't be read
}

type write struct {
	at   int64
	data []byte
}

func newMemory(size int64, sector int) *memory {
	return &memory{bytes: make([]byte, size), sector: sector, writes: [][]write{nil}, bad: map[int64]bool{}}
}

func (m *memory) Name() string { return "memory" }

func (m *memory) ReadAt(b []byte, at int64) (int, error) {
	for s := at / int64(m.sector); s*int64(m.sector) < at+int64(len(b)); s++ {
		if m.bad[s] {
			return 0, errors.New("input/output error")
		}
	}
	n := copy(b, m.bytes[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	if at%int64(m.sector) != 0 || len(b)%m.sector != 0 {
		return 0, fmt.Errorf("%d bytes at %d are not of whole sectors", len(b), at)
	}
	last := len(m.writes) - 1
	for i := 0; i < len(b); i += m.sector {
		m.writes[last] = append(m.writes[last], write{at + int64(i), slices.Clone(b[i : i+m.sector])})
	}
	return copy(m.bytes[at:], b), nil
}

func (m *memory) Sync() error {
	m.writes = append(m.writes, nil)
	return nil
}

// sizes are disks of both sector sizes.
var sizes = []struct {
	name   string
	bytes  int64
	sector int
}{{"sectors of 512", 64 << 20, 512}, {"sectors of 4096", 64 << 20, 4096}}

// small are disks that are copied often.
var small = []struct {
	name   string
	bytes  int64
	sector int
}{{"sectors of 512", 10 << 20, 512}, {"sectors of 4096", 10 << 20, 4096}}

// table is one with so many partitions of 1 MiB.
func table(t testing.TB, size int64, sector, partitions int) gpt.Table {
	t.Helper()
	made, err := gpt.New(diskID, size, sector)
	if err != nil {
		t.Fatal(err)
	}
	for i := range partitions {
		add(t, &made, fmt.Sprintf("volume %d", i), 1<<20)
	}
	return made
}

func add(t testing.TB, made *gpt.Table, name string, size int64) int {
	t.Helper()
	place, ok := gpt.Fit(made.Free(), size)
	if !ok {
		t.Fatalf("no room for %d bytes", size)
	}
	number, err := made.Unused(func(int) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	*made = made.Clone()
	made.Partitions[number-1] = made.Placed(gpt.Partition{Type: linux, ID: gpt.Derived(space, name)}, place).Named(name)
	return number
}

func TestATornWriteIsAlwaysReadAsTheTableBeforeOrAfter(t *testing.T) {
	for _, c := range small {
		t.Run(c.name, func(t *testing.T) {
			before := table(t, c.bytes, c.sector, 5)
			disk := newMemory(c.bytes, c.sector)
			if err := gpt.Init(t.Context(), disk, before); err != nil {
				t.Fatal(err)
			}
			old := slices.Clone(disk.bytes)
			disk.writes = [][]write{nil}
			after := before.Clone()
			after.Partitions[2] = gpt.Partition{}
			add(t, &after, "new", 3<<20)
			if err := gpt.Write(t.Context(), disk, after); err != nil {
				t.Fatal(err)
			}
			dice := rand.New(rand.NewPCG(1, uint64(c.sector)))
			cuts, news := 0, 0
			for group := range disk.writes {
				for cut := range len(disk.writes[group]) + 1 {
					// In order, and with any of the later ones before earlier ones: a disk may reorder what it caches.
					for shuffled := range 4 {
						torn := newMemory(c.bytes, c.sector)
						copy(torn.bytes, old)
						for _, done := range disk.writes[:group] {
							torn.apply(done)
						}
						some := slices.Clone(disk.writes[group])
						if shuffled > 0 {
							dice.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
						}
						torn.apply(some[:cut])
						cuts++
						if judge(t, torn, before, after) {
							news++
						}
					}
				}
			}
			if cuts < 50 || news == 0 || news == cuts {
				t.Errorf("%d cuts, %d of them with the new table", cuts, news)
			}
		})
	}
}

func (m *memory) apply(all []write) {
	for _, w := range all {
		copy(m.bytes[w.at:], w.data)
	}
}

// judge reads a disk after a crash, mends it, and tells whether the change had happened.
func judge(t *testing.T, disk *memory, before, after gpt.Table) bool {
	t.Helper()
	got, flaws, err := gpt.Read(disk, int64(len(disk.bytes)), disk.sector)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Equal(before) && !got.Equal(after) {
		t.Fatalf("neither the table before nor after: %+v", got)
	}
	if flaws.Any() {
		if err := gpt.Write(t.Context(), disk, got); err != nil {
			t.Fatal(err)
		}
		again, flaws, err := gpt.Read(disk, int64(len(disk.bytes)), disk.sector)
		if err != nil || flaws.Any() || !again.Equal(got) {
			t.Fatalf("mended: %v, %+v", err, flaws)
		}
	}
	return got.Equal(after)
}

func TestATableIsThereWhenAllOfItIs(t *testing.T) {
	for _, c := range small {
		t.Run(c.name, func(t *testing.T) {
			want := table(t, c.bytes, c.sector, 1)
			disk := newMemory(c.bytes, c.sector)
			if err := gpt.Init(t.Context(), disk, want); err != nil {
				t.Fatal(err)
			}
			all := slices.Concat(disk.writes...)
			for cut := range all {
				torn := newMemory(c.bytes, c.sector)
				torn.apply(all[:cut])
				if _, _, err := gpt.Read(torn, c.bytes, c.sector); !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Precondition) {
					t.Fatalf("after %d of %d sectors: %v", cut, len(all), err)
				}
			}
			if got, flaws, err := gpt.Read(disk, c.bytes, c.sector); err != nil || flaws.Any() || !got.Equal(want) {
				t.Errorf("%v, %+v", err, flaws)
			}
		})
	}
}

func TestReadErrorsAreNotAnEmptyDisk(t *testing.T) {
	const size, sector = 8 << 20, 512
	last := int64(size/sector - 1)
	for name, c := range map[string]struct {
		bad   []int64
		empty bool
		kind  fault.Kind // Internal: it is read
		flaw  bool
	}{
		"an empty disk":                            {empty: true, kind: fault.NotFound},
		"an empty disk whose MBR can't be read":    {bad: []int64{0}, empty: true, kind: fault.Unavailable},
		"an empty disk whose header can't be read": {bad: []int64{1}, empty: true, kind: fault.Unavailable},
		"the MBR can't be read":                    {bad: []int64{0}, kind: fault.Unavailable},
		"the first header can't be read":           {bad: []int64{1}, flaw: true},
		"the first entries can't be read":          {bad: []int64{3}, flaw: true},
		"the second header can't be read":          {bad: []int64{last}, flaw: true},
		"neither header can be read":               {bad: []int64{1, last}, kind: fault.Unavailable},
		"all can be read":                          {},
	} {
		t.Run(name, func(t *testing.T) {
			disk := newMemory(size, sector)
			want := table(t, size, sector, 2)
			if !c.empty {
				if err := gpt.Init(t.Context(), disk, want); err != nil {
					t.Fatal(err)
				}
			}
			for _, s := range c.bad {
				disk.bad[s] = true
			}
			got, flaws, err := gpt.Read(disk, size, sector)
			if c.kind != fault.Internal {
				if !fault.Is(err, c.kind) {
					t.Errorf("got %v, want %v", err, c.kind)
				}
				return
			}
			if err != nil || flaws.Any() != c.flaw || !got.Equal(want) {
				t.Errorf("%v, %+v", err, flaws)
			}
		})
	}
}

func TestWhatIsNoTableAnyMore(t *testing.T) {
	const size, sector = 8 << 20, 512
	for name, c := range map[string]struct {
		change func(b []byte)
		kind   fault.Kind
	}{
		"a DOS table was written over its beginning": {func(b []byte) { clear(b[:4096]); b[510], b[511], b[450] = 0x55, 0xaa, 0x83 }, fault.NotFound},
		"its MBR was cleared":                        {func(b []byte) { clear(b[:512]) }, fault.Precondition},
		"its beginning was cleared":                  {func(b []byte) { clear(b[:4096]) }, fault.NotFound},
		"both headers were damaged":                  {func(b []byte) { b[512+60]++; b[len(b)-512+60]++ }, fault.Precondition},
	} {
		t.Run(name, func(t *testing.T) {
			disk := newMemory(size, sector)
			if err := gpt.Init(t.Context(), disk, table(t, size, sector, 2)); err != nil {
				t.Fatal(err)
			}
			c.change(disk.bytes)
			if _, _, err := gpt.Read(disk, size, sector); !fault.Is(err, c.kind) {
				t.Errorf("got %v, want %v", err, c.kind)
			}
		})
	}
}

func TestADiskThatGrew(t *testing.T) {
	for _, c := range small {
		t.Run(c.name, func(t *testing.T) {
			disk := newMemory(c.bytes, c.sector)
			made := table(t, c.bytes, c.sector, 2)
			if err := gpt.Init(t.Context(), disk, made); err != nil {
				t.Fatal(err)
			}
			disk.bytes = append(disk.bytes, make([]byte, c.bytes)...)
			got, flaws, err := gpt.Read(disk, 2*c.bytes, c.sector)
			if err != nil || flaws.First != nil || flaws.Second == nil {
				t.Fatalf("%v, %+v", err, flaws)
			}
			larger, changed := got.Stretched()
			if !changed {
				t.Fatal("nothing was gained")
			}
			if err := gpt.Write(t.Context(), disk, larger); err != nil {
				t.Fatal(err)
			}
			got, flaws, err = gpt.Read(disk, 2*c.bytes, c.sector)
			if err != nil || flaws.Any() || !got.Equal(larger) || !slices.Equal(got.Partitions, made.Partitions) {
				t.Fatalf("%v, %+v", err, flaws)
			}
			if _, ok := gpt.Fit(got.Free(), c.bytes); !ok {
				t.Errorf("free are %v", got.Free())
			}
			if _, changed := got.Stretched(); changed {
				t.Error("it is stretched twice")
			}
		})
	}
}

func TestWhereThePartitionsGo(t *testing.T) {
	const mib = gpt.MiB
	made := table(t, 64*mib, 512, 0)
	free := made.Free(gpt.Span{Start: 10*mib + 512, Bytes: 512}, gpt.Span{Start: 20 * mib, Bytes: 30 * mib}, gpt.Span{Start: 15 * mib, Bytes: 10 * mib})
	want := []gpt.Span{{Start: mib, Bytes: 9 * mib}, {Start: 11 * mib, Bytes: 4 * mib}, {Start: 50 * mib, Bytes: 13 * mib}}
	if !slices.Equal(free, want) {
		t.Fatalf("free are %v", free)
	}
	for _, c := range []struct{ bytes, start int64 }{{mib, 11 * mib}, {4 * mib, 11 * mib}, {5 * mib, mib}, {9 * mib, mib}, {10 * mib, 50 * mib}, {13 * mib, 50 * mib}} {
		if got, ok := gpt.Fit(free, c.bytes); !ok || got != (gpt.Span{Start: c.start, Bytes: c.bytes}) {
			t.Errorf("%d bytes: %v, %v", c.bytes, got, ok)
		}
	}
	if got, ok := gpt.Fit(free, 14*mib); ok {
		t.Errorf("14 MiB at %v", got)
	}
}

func TestAsManyPartitionsAsTheKernelTakes(t *testing.T) {
	made := table(t, 512<<20, 4096, gpt.MostPartitions)
	if _, err := made.Unused(func(int) bool { return false }); !fault.Is(err, fault.Exhausted) {
		t.Errorf("one more: %v", err)
	}
	disk := newMemory(512<<20, 4096)
	if err := gpt.Init(t.Context(), disk, made); err != nil {
		t.Fatal(err)
	}
	if got, flaws, err := gpt.Read(disk, 512<<20, 4096); err != nil || flaws.Any() || !got.Equal(made) {
		t.Errorf("%v, %+v", err, flaws)
	}
}

func TestTablesThatAreRefused(t *testing.T) {
	const size = 64 << 20
	for name, change := range map[string]func(t *gpt.Table){
		"partitions that overlap":           func(t *gpt.Table) { t.Partitions[1].First = t.Partitions[0].Last },
		"a partition that ends too early":   func(t *gpt.Table) { t.Partitions[0].Last = t.Partitions[0].First - 1 },
		"a partition over the first copy":   func(t *gpt.Table) { t.Partitions[0].First = 3 },
		"a partition behind the usable":     func(t *gpt.Table) { t.Partitions[1].Last = t.LastUsable + 1 },
		"no room for the second copy":       func(t *gpt.Table) { t.LastUsable = t.Sectors - 2 },
		"usable sectors that are the first": func(t *gpt.Table) { t.FirstUsable = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			made := table(t, size, 512, 2)
			change(&made)
			disk := newMemory(size, 512)
			if err := gpt.Write(t.Context(), disk, made); !fault.Is(err, fault.Precondition) {
				t.Errorf("got %v", err)
			}
			if !bytes.Equal(disk.bytes, make([]byte, size)) {
				t.Error("something was written")
			}
		})
	}
	if _, err := gpt.New(diskID, 32<<10, 512); !fault.Is(err, fault.OutOfRange) {
		t.Errorf("a tiny disk: %v", err)
	}
	if _, err := gpt.New(diskID, size, 1024); !fault.Is(err, fault.Invalid) {
		t.Errorf("strange sectors: %v", err)
	}
}

func TestGUIDs(t *testing.T) {
	const text = "0fc63daf-8483-4772-8e79-3d69d8477de4"
	if g, err := gpt.ParseGUID(text); err != nil || g.String() != text {
		t.Errorf("%v, %v", g, err)
	}
	for _, bad := range []string{"", "0fc63daf", "{0fc63daf-8483-4772-8e79-3d69d8477de4}", text + "0"} {
		if _, err := gpt.ParseGUID(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	long := gpt.Partition{}.Named("pvc-0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0-0a1b2c3d")
	if got := long.Name(); got != "pvc-0f1e2d3c-4b5a-6978-8796-a5b4c3d2" {
		t.Errorf("named %q", got)
	}
}

// fuzzed is the size of the disks that are read there, in bytes.
const fuzzed = 256 << 10

func FuzzRead(f *testing.F) {
	for _, c := range sizes {
		disk := newMemory(fuzzed, c.sector)
		made, err := gpt.New(diskID, fuzzed, c.sector)
		if err != nil {
			f.Fatal(err)
		}
		if err := gpt.Init(f.Context(), disk, made); err != nil {
			f.Fatal(err)
		}
		f.Add(disk.bytes[:8*c.sector], disk.bytes[fuzzed-4*c.sector:], c.sector == 4096)
	}
	f.Fuzz(func(t *testing.T, first, last []byte, large bool) {
		sector := 512
		if large {
			sector = 4096
		}
		disk := newMemory(fuzzed, sector)
		copy(disk.bytes, first)
		last = last[:min(len(last), fuzzed)]
		copy(disk.bytes[fuzzed-len(last):], last)
		got, _, err := gpt.Read(disk, fuzzed, sector)
		if err != nil {
			if k := fault.KindOf(err); k != fault.NotFound && k != fault.Precondition {
				t.Fatalf("a disk that can be read: %v", err)
			}
			return
		}
		if err := gpt.Write(t.Context(), disk, got); err != nil {
			return // a table that leaves no room for its second copy
		}
		again, flaws, err := gpt.Read(disk, fuzzed, sector)
		if err != nil || flaws.Any() || !again.Equal(got) {
			t.Fatalf("what was read was written, and is another: %v, %+v", err, flaws)
		}
	})
}
