package lvm

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// reportArguments ask for all that a VolumeGroup holds, in bytes; groups that this host must not use are told of too, so that it can say so.
func reportArguments() []string {
	return []string{
		"fullreport", "--all", "--foreign", "--shared", "--reportformat", "json", "--units", "b", "--nosuffix",
		"--configreport", "vg", "-o", "vg_uuid,vg_name,vg_seqno,vg_attr,vg_extent_size,vg_extent_count,vg_free_count,vg_tags," +
			"vg_systemid,vg_lock_type,vg_missing_pv_count,vg_mda_free,vg_mda_size",
		"--configreport", "pv", "-o", "pv_uuid,pv_name,pv_missing,pv_size,pv_allocatable,pv_pe_count,pv_pe_alloc_count",
		"--configreport", "lv", "-o", "lv_uuid,lv_name,lv_attr,lv_size,lv_tags,origin,pool_lv,data_percent,metadata_percent," +
			"lv_metadata_size,sync_percent",
		"--configreport", "pvseg", "-o", "pv_uuid,pvseg_start,pvseg_size,lv_name",
		"--configreport", "seg", "-o", "lv_name,segtype,stripes,chunk_size",
	}
}

// text is a field of a report: LVM writes every one as a string in the format json, and numbers as such in json_std.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = text(s)
		return nil
	}
	var n json.Number
	if err := json.Unmarshal(b, &n); err != nil {
		return err
	}
	*t = text(n.String())
	return nil
}

// number is a field that is a whole number, "" being 0.
func (t text) number() (int64, error) {
	if t == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(string(t), 10, 64)
	if err != nil || n < 0 {
		return 0, fault.New(fault.Internal, "lvm reported %q where a number belongs", shorten(string(t)))
	}
	return n, nil
}

// percent is a field that is a share, "" being 0.
func (t text) percent() float64 {
	f, err := strconv.ParseFloat(string(t), 64)
	if err != nil || math.IsNaN(f) {
		return 0
	}
	return min(max(f, 0), 100)
}

// list is a field of words.
func (t text) list() []string {
	if t == "" {
		return nil
	}
	return strings.Split(string(t), ",")
}

type row map[string]text

type fullReport struct {
	Report []struct {
		VG    []row `json:"vg"`
		PV    []row `json:"pv"`
		LV    []row `json:"lv"`
		PVSeg []row `json:"pvseg"`
		Seg   []row `json:"seg"`
	} `json:"report"`
}

// parseReport reads the output of a report. LVM may write sentences for people between its lines: a line of JSON
// begins with a bracket, a comma or a quotation mark, and any other is passed over.
func parseReport(out []byte) (fullReport, error) {
	var kept bytes.Buffer
	for line := range bytes.Lines(out) {
		trimmed := bytes.TrimSpace(line)
		if len(trimmed) > 0 && bytes.IndexByte([]byte(`{}[],"`), trimmed[0]) >= 0 {
			kept.Write(line)
		}
	}
	var r fullReport
	if err := json.Unmarshal(kept.Bytes(), &r); err != nil {
		return r, fault.New(fault.Internal, "the report of lvm can't be read: %w: %q", err, shorten(string(out)))
	}
	return r, nil
}

// parseGroup reads the report of the group of that UUID. A report without it is fault.NotFound.
func parseGroup(out []byte, uuid string) (*VolumeGroup, error) {
	r, err := parseReport(out)
	if err != nil {
		return nil, err
	}
	for _, part := range r.Report {
		if len(part.VG) != 1 || string(part.VG[0]["vg_uuid"]) != uuid {
			continue
		}
		g, err := groupOf(part.VG[0])
		if err != nil {
			return nil, err
		}
		if g.PVs, err = each(part.PV, pvOf); err != nil {
			return nil, err
		}
		if err := g.addVolumes(part.LV); err != nil {
			return nil, err
		}
		if err := g.addSegments(part.Seg); err != nil {
			return nil, err
		}
		return g, g.addRanges(part.PVSeg)
	}
	return nil, fault.New(fault.NotFound, "its devices hold no volume group of UUID %s", shorten(uuid))
}

func each[T any](rows []row, parse func(row) (T, error)) ([]T, error) {
	out := make([]T, 0, len(rows))
	for _, r := range rows {
		v, err := parse(r)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// numbers reads several fields at once.
func (r row) numbers(fields map[string]*int64) error {
	for name, to := range fields {
		n, err := r[name].number()
		if err != nil {
			return fault.Wrap(err, "read", name)
		}
		*to = n
	}
	return nil
}

// The characters of vg_attr (vgs(8)).
const (
	vgAttrWrite     = 0
	vgAttrExported  = 2
	vgAttrClustered = 5
	vgAttrLength    = 6
)

func groupOf(r row) (*VolumeGroup, error) {
	g := &VolumeGroup{
		UUID: string(r["vg_uuid"]), Name: string(r["vg_name"]), Tags: r["vg_tags"].list(), SystemID: string(r["vg_systemid"]),
		LockType: string(r["vg_lock_type"]), LVs: map[string]LogicalVolume{}, occupied: map[string][]Range{}, Layout: true,
	}
	a := string(r["vg_attr"])
	if g.UUID == "" || g.Name == "" || len(a) < vgAttrLength {
		return nil, fault.New(fault.Internal, "lvm reported a volume group of name %q, UUID %q and attributes %q", shorten(g.Name), shorten(g.UUID), shorten(a))
	}
	g.ReadOnly, g.Exported, g.Clustered = a[vgAttrWrite] == 'r', a[vgAttrExported] == 'x', a[vgAttrClustered] == 'c'
	var missing int64
	err := r.numbers(map[string]*int64{
		"vg_seqno": &g.Seqno, "vg_extent_size": &g.ExtentSize, "vg_extent_count": &g.Extents, "vg_free_count": &g.FreeExtents,
		"vg_missing_pv_count": &missing, "vg_mda_free": &g.MetadataFree, "vg_mda_size": &g.MetadataSize,
	})
	g.MissingPVs = int(min(missing, math.MaxInt32))
	if err == nil && g.ExtentSize == 0 {
		err = fault.New(fault.Internal, "lvm reported extents of no bytes in volume group %s", g.Name)
	}
	return g, err
}

func pvOf(r row) (PhysicalVolume, error) {
	p := PhysicalVolume{
		UUID: string(r["pv_uuid"]), Device: string(r["pv_name"]), Missing: r["pv_missing"] != "", Allocatable: r["pv_allocatable"] != "",
	}
	if p.Missing || !strings.HasPrefix(p.Device, "/") {
		p.Device, p.Missing = "", true
	}
	return p, r.numbers(map[string]*int64{"pv_size": &p.Size, "pv_pe_count": &p.Extents, "pv_pe_alloc_count": &p.Used})
}

// isHidden tells a part of another volume, and returns its bare name: LVM writes it in brackets.
func isHidden(name string) (string, bool) {
	if strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]") {
		return name[1 : len(name)-1], true
	}
	return name, false
}

func (vg *VolumeGroup) addVolumes(rows []row) error {
	for _, r := range rows {
		name, hidden := isHidden(string(r["lv_name"]))
		if hidden || name == "" {
			continue
		}
		v, err := volumeOf(name, r)
		if err != nil {
			return fault.Wrap(err, "read logical volume", shorten(name))
		}
		vg.LVs[name] = v
	}
	return nil
}

func volumeOf(name string, r row) (LogicalVolume, error) {
	a, err := parseAttr(string(r["lv_attr"]))
	if err != nil {
		return LogicalVolume{}, err
	}
	origin, _ := isHidden(string(r["origin"]))
	pool, _ := isHidden(string(r["pool_lv"]))
	v := LogicalVolume{
		UUID: string(r["lv_uuid"]), Name: name, Tags: r["lv_tags"].list(), Origin: origin, Pool: pool, Kind: Other,
		IsOrigin: a.volumeType == 'o' || a.volumeType == 'O', Active: a.active, Open: a.open, ReadOnly: a.readOnly,
		ActivationSkipped: a.skipped, Health: a.health, Zeroing: a.zeroing,
		DataPercent: r["data_percent"].percent(), MetadataPercent: r["metadata_percent"].percent(), SyncPercent: r["sync_percent"].percent(),
	}
	// A full snapshot is called that before the kernel gives it up.
	switch a.volumeType {
	case 's', 'S':
		v.Kind = Snapshot
	case 't':
		v.Kind = ThinPool
	case 'V':
		v.Kind = Thin
	}
	return v, r.numbers(map[string]*int64{"lv_size": &v.Bytes, "lv_metadata_size": &v.MetadataBytes})
}

// addSegments learns of each volume its type. A volume of several segments has one row for each.
func (vg *VolumeGroup) addSegments(rows []row) error {
	for _, r := range rows {
		v, ok := vg.LVs[string(r["lv_name"])]
		if !ok {
			continue
		}
		var stripes int64
		var chunk int64
		if err := r.numbers(map[string]*int64{"stripes": &stripes, "chunk_size": &chunk}); err != nil {
			return fault.Wrap(err, "read logical volume", v.Name)
		}
		segment := string(r["segtype"])
		v.Stripes, v.ChunkBytes = max(v.Stripes, int(min(stripes, math.MaxInt32))), max(v.ChunkBytes, chunk)
		v.Segment = segment
		if v.Kind == Other {
			switch {
			case segment == "linear":
				v.Kind = Linear
			case segment == "striped":
				v.Kind = Striped
			case strings.HasPrefix(segment, "raid"):
				v.Kind = RAID
			}
		}
		vg.LVs[v.Name] = v
	}
	return nil
}

func (vg *VolumeGroup) addRanges(rows []row) error {
	for _, r := range rows {
		x := Range{PV: string(r["pv_uuid"])}
		if err := r.numbers(map[string]*int64{"pvseg_start": &x.Start, "pvseg_size": &x.Count}); err != nil {
			return fault.Wrap(err, "read the extents of", x.PV)
		}
		name, _ := isHidden(string(r["lv_name"]))
		if name == "" {
			vg.Free = append(vg.Free, x)
		} else {
			vg.occupied[name] = append(vg.occupied[name], x)
		}
	}
	return nil
}
