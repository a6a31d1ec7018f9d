package lvm

import (
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

func TestAttributesAreTakenApart(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want attr
	}{
		"a volume that is active and mounted": {"-wi-ao----", attr{volumeType: '-', active: true, open: true}},
		"one that is not active":              {"-wi-------", attr{volumeType: '-'}},
		"a thin pool that zeroes":             {"twi-aotz--", attr{volumeType: 't', active: true, open: true, zeroing: true}},
		"a thin pool without room":            {"twi-aotzD-", attr{volumeType: 't', active: true, open: true, zeroing: true, health: OutOfData}},
		"one whose metadata is full":          {"twi-aotzM-", attr{volumeType: 't', active: true, open: true, zeroing: true, health: MetadataReadOnly}},
		"a thin snapshot that is skipped":     {"Vri---tz-k", attr{volumeType: 'V', readOnly: true, zeroing: true, skipped: true}},
		"a raid without one of its disks":     {"rwi-aor-p-", attr{volumeType: 'r', active: true, open: true, health: Partial}},
		"a raid whose disk came back":         {"rwi-aor-r-", attr{volumeType: 'r', active: true, open: true, health: RefreshNeeded}},
		"a snapshot that overflowed":          {"swi-I-s---", attr{volumeType: 's', active: true, health: Overflowed}},
		"of a later version, with more":       {"-wi-a-----??", attr{volumeType: '-', active: true}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := parseAttr(c.in); err != nil || got != c.want {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	if _, err := parseAttr("-wi-a"); err == nil {
		t.Error("half of the attributes are taken for all")
	}
}

const groupUUID = "ZEqYfW-CM7D-Co1o-vmv2-yK2G-b2rM-hgOky6"

func readTestdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The report is of LVM 2.03.16, of a group that lacks a device, with LVM's warnings within it.
func TestAReportWithSentencesInTheMiddle(t *testing.T) {
	g, err := parseGroup(readTestdata(t, "report.txt"), groupUUID)
	if err != nil {
		t.Fatal(err)
	}
	if g.Name != "vg" || g.Seqno != 18 || g.ExtentSize != 4<<20 || g.Extents != 1533 || g.FreeExtents != 1434 || g.MissingPVs != 1 || len(g.PVs) != 3 {
		t.Errorf("group %+v", g)
	}
	if p := g.PVs[2]; !p.Missing || p.Device != "" || p.Extents != 511 {
		t.Errorf("the missing device: %+v", p)
	}
	for name, want := range map[string]LogicalVolume{
		"a":   {Kind: Linear, Bytes: 16 << 20, IsOrigin: true},
		"cow": {Kind: Snapshot, Bytes: 8 << 20, Origin: "a"},
		"r5":  {Kind: RAID, Bytes: 16 << 20, Health: Partial},
		"st":  {Kind: Striped, Bytes: 16 << 20, Active: true},
		"t1":  {Kind: Thin, Bytes: 100 << 20, Pool: "tp", Health: Partial},
		"tp":  {Kind: ThinPool, Bytes: 200 << 20, Active: true, Health: Partial, MetadataPercent: 10.94},
	} {
		got := g.LVs[name]
		if got.Kind != want.Kind || got.Bytes != want.Bytes || got.IsOrigin != want.IsOrigin || got.Origin != want.Origin || got.Pool != want.Pool ||
			got.Health != want.Health || got.Active != want.Active || got.MetadataPercent != want.MetadataPercent {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if len(g.LVs) != 9 {
		t.Errorf("%d volumes: a part of another counts as one", len(g.LVs))
	}
	if tags := g.LVs["a"].Tags; !slices.Equal(tags, []string{"dcsi.0=u=1&c=2!20/:+#"}) {
		t.Errorf("tags %q", tags)
	}
	if n := Count(g.Free); n != g.FreeExtents {
		t.Errorf("%d free extents in ranges, %d in all", n, g.FreeExtents)
	}
	if n := Count(g.Occupied("r5")); n != 6 {
		t.Errorf("the legs of a raid have %d extents", n)
	}
	if _, err := parseGroup(readTestdata(t, "report.txt"), "another"); !fault.Is(err, fault.NotFound) {
		t.Errorf("another group: %v", err)
	}
}

func TestReportsThatMakeNoSense(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":             "",
		"words":               "  Volume group not found\n",
		"cut off":             `{"report":[{"vg":[{"vg_uuid":"` + groupUUID + `"`,
		"extents of no bytes": `{"report":[{"vg":[{"vg_uuid":"` + groupUUID + `","vg_name":"vg","vg_attr":"wz--n-"}]}]}`,
		"no name":             `{"report":[{"vg":[{"vg_uuid":"` + groupUUID + `","vg_attr":"wz--n-","vg_extent_size":"4096"}]}]}`,
		"a size of words":     `{"report":[{"vg":[{"vg_uuid":"` + groupUUID + `","vg_name":"vg","vg_attr":"wz--n-","vg_extent_size":"4m"}]}]}`,
		"less than nothing":   `{"report":[{"vg":[{"vg_uuid":"` + groupUUID + `","vg_name":"vg","vg_attr":"wz--n-","vg_extent_size":"-1"}]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			if g, err := parseGroup([]byte(in), groupUUID); err == nil {
				t.Errorf("taken for %+v", g)
			}
		})
	}
}

func FuzzReport(f *testing.F) {
	f.Add(readTestdata(f, "report.txt"))
	f.Add([]byte(`{"report":[{"vg":[{"vg_uuid":"` + groupUUID + `","vg_name":"vg","vg_attr":"wz--n-","vg_extent_size":4096}],"lv":[{"lv_name":"x","lv_attr":"-wi-a-----"}]}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		g, err := parseGroup(in, groupUUID)
		if err != nil {
			return
		}
		if g.UUID != groupUUID || g.ExtentSize <= 0 || g.FreeExtents < 0 {
			t.Errorf("%+v", g)
		}
		for name, lv := range g.LVs {
			if name == "" || lv.Name != name || lv.Bytes < 0 || lv.DataPercent < 0 || lv.DataPercent > 100 {
				t.Errorf("%q: %+v", name, lv)
			}
		}
	})
}

func FuzzTag(f *testing.F) {
	for _, s := range []string{"", "plain", "späte Zeichen", "a=b&c,d", "-begins", strings.Repeat("!", 40), "\x00\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e := EscapeTag(s)
		if err := checkTag("x" + e); err != nil && len(e) < MaxTag {
			t.Errorf("%q is no tag: %v", e, err)
		}
		if back, err := UnescapeTag(e); err != nil || back != s {
			t.Errorf("%q became %q, %v", s, back, err)
		}
		if back, err := UnescapeTag(s); err == nil && EscapeTag(back) != s {
			t.Errorf("%q has two forms", s)
		}
	})
}

// disk is the beginning of a physical volume: the label in the second sector, one metadata area at 4 KiB.
func disk(text string) []byte {
	b := make([]byte, 64<<10)
	le := binary.LittleEndian
	label := b[sector:]
	copy(label, labelMagic)
	le.PutUint32(label[labelOffset:], 32)
	copy(label[labelTypeAt:], labelType)
	areas := label[32+pvAreas:]
	le.PutUint64(areas, 1<<20)                // one data area, to the end
	le.PutUint64(areas[2*areaLength:], 4<<10) // one metadata area
	le.PutUint64(areas[2*areaLength+8:], 32<<10)
	header := b[4<<10:]
	copy(header[mdaMagicAt:], mdaMagic)
	le.PutUint64(header[mdaSizeAt:], 32<<10)
	le.PutUint64(header[mdaTextAt:], 1536)
	le.PutUint64(header[mdaTextAt+8:], uint64(len(text)))
	copy(header[1536:], text)
	return b
}

func reader(b []byte) func(offset, size int64) ([]byte, error) {
	return func(offset, size int64) ([]byte, error) {
		if offset < 0 || size < 0 || offset+size > int64(len(b)) {
			return nil, fault.New(fault.Unavailable, "outside")
		}
		return b[offset : offset+size], nil
	}
}

const metadata = "vg {\nid = \"VhijYc\"\nseqno = 4711\nformat = \"lvm2\"\n"

func TestTheVersionIsReadFromTheDisk(t *testing.T) {
	b := disk(metadata)
	binary.LittleEndian.PutUint32(b[4<<10+mdaTextAt+mdaSumAt:], 0xfeed)
	if v, err := readVersion(reader(b)); v != (Version{4711, 0xfeed}) || err != nil {
		t.Errorf("%+v, %v", v, err)
	}
	for name, spoil := range map[string]func(b []byte){
		"no label":               func(b []byte) { b[sector] = 'X' },
		"a label of another":     func(b []byte) { b[sector+labelTypeAt] = 'X' },
		"a header out of reach":  func(b []byte) { binary.LittleEndian.PutUint32(b[sector+labelOffset:], 4000) },
		"a damaged area":         func(b []byte) { b[4<<10+mdaMagicAt] = 'X' },
		"a text out of its area": func(b []byte) { binary.LittleEndian.PutUint64(b[4<<10+mdaTextAt:], 1<<40) },
		"no number":              func(b []byte) { copy(b[4<<10+1536:], strings.Repeat("x", len(metadata))) },
		"a number cut off":       func(b []byte) { binary.LittleEndian.PutUint64(b[4<<10+mdaTextAt+8:], 30) },
		"no group yet":           func(b []byte) { binary.LittleEndian.PutUint64(b[4<<10+mdaTextAt:], 0) },
	} {
		t.Run(name, func(t *testing.T) {
			b := disk(metadata)
			spoil(b)
			if v, err := readVersion(reader(b)); err == nil {
				t.Errorf("read %+v", v)
			}
		})
	}
}

func FuzzStamp(f *testing.F) {
	f.Add(disk(metadata))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := readVersion(reader(b)); err == nil && v.Seqno < 0 {
			t.Errorf("%+v", v)
		}
	})
}

func TestRanges(t *testing.T) {
	a, b := "pv1", "pv2"
	all := []Range{{a, 0, 10}, {b, 5, 10}}
	for name, c := range map[string]struct{ got, want []Range }{
		"joined":                    {Union([]Range{{a, 5, 5}, {a, 0, 5}, {b, 1, 1}}), []Range{{a, 0, 10}, {b, 1, 1}}},
		"overlapping":               {Union([]Range{{a, 0, 6}, {a, 4, 2}, {a, 5, 5}}), []Range{{a, 0, 10}}},
		"without the middle":        {Subtract(all, []Range{{a, 4, 2}}), []Range{{a, 0, 4}, {a, 6, 4}, {b, 5, 10}}},
		"without all of one device": {Subtract(all, []Range{{a, 0, 99}}), []Range{{b, 5, 10}}},
		"without two ends":          {Subtract(all, []Range{{b, 0, 6}, {b, 14, 3}}), []Range{{a, 0, 10}, {b, 6, 8}}},
		"what both have":            {Intersect(all, []Range{{a, 8, 9}, {b, 0, 7}}), []Range{{a, 8, 2}, {b, 5, 2}}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	for name, c := range map[string]struct {
		extents int64
		most    int
		want    []Range
		ok      bool
	}{
		"the smallest that holds all": {3, 2, []Range{{b, 20, 3}}, true},
		"the larger one":              {5, 2, []Range{{a, 0, 5}}, true},
		"two pieces":                  {12, 2, []Range{{a, 0, 10}, {b, 20, 2}}, true},
		"too many pieces":             {14, 2, nil, false},
		"more than there is":          {99, 9, nil, false},
	} {
		got, ok := Pick([]Range{{a, 0, 10}, {b, 20, 3}, {b, 0, 2}}, c.extents, c.most)
		if ok != c.ok || ok && !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %t", name, got, ok)
		}
	}
}

func TestOnlyTheDevicesNamedAreSeen(t *testing.T) {
	got, err := configuration([]string{"/dev/sda", "/dev/mapper/a+b.c"}, false)
	if err != nil || !strings.Contains(got, `filter=["a|^/dev/sda$|","a|^/dev/mapper/a\\+b\\.c$|","r|.*|"]`) || !strings.Contains(got, "use_devicesfile=0") {
		t.Errorf("%s, %v", got, err)
	}
	for _, devices := range [][]string{nil, {""}, {"sda"}, {`/dev/s"da`}, {"/dev/a|b"}, {"/dev/a,b"}, {"/dev/a\nb"}} {
		if got, err := configuration(devices, false); err == nil {
			t.Errorf("%q: %s", devices, got)
		}
	}
}

func TestNamesOfVolumes(t *testing.T) {
	for _, ok := range []string{"pvc-1234-abcd", "a", "_x", "A.b+c"} {
		if !validName(ok) {
			t.Errorf("%q is refused", ok)
		}
	}
	for _, bad := range []string{"", ".", "..", "-x", "a/b", "a b", "ä", "a:b", strings.Repeat("x", maxName+1)} {
		if validName(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
}
