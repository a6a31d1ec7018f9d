package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

func TestBlockPoolsAreMeasuredBesideTheirTools(t *testing.T) {
	disk := harness.NewDisk(t, "ext4", gib)
	var out bytes.Buffer
	o := options{
		driver: harness.Binary(t), folder: disk.Path, vm: "../testbed/vm", only: []string{"block"}, types: []string{"lvm", "disk", "partition"},
		amounts: tiny(), out: &out,
	}
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	b := newBench(o, disk.Path)
	if err := b.block(t.Context()); err != nil {
		t.Fatal(err)
	}
	const pools, comparisons = 4, 7
	if n := len(b.report.Floors); n != pools*comparisons {
		t.Errorf("%d comparisons, want %d: %+v", n, pools*comparisons, b.report.Floors)
	}
	for _, f := range b.report.Floors {
		if f.Driver <= 0 || f.Hand <= 0 || f.Ratio <= 0 || !strings.Contains(f.Volume, " among ") {
			t.Errorf("%+v", f)
		}
	}
}

func TestTheAimsOfBlockPools(t *testing.T) {
	figures := func(name, among string, ratio float64) floorFigures {
		return floorFigures{Name: name, Volume: "partition of a disk among " + among, Ratio: ratio}
	}
	r := report{Floors: []floorFigures{
		figures(blockCreate, "10", 1.1), figures(blockDelete, "10", 1.2), figures(blockFormat, "10", 1.0),
		figures(blockAll, "10", 1.01), figures(blockCreate, "1000", 1.4), figures(blockDelete, "1000", 9),
	}}
	var got []bool
	for _, a := range r.blockAims() {
		got = append(got, a.Met)
	}
	if want := []bool{true, false, true, false, false}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v: %+v", got, want, r.blockAims())
	}
}

func TestAnUnknownTypeOfBlockPoolIsNamed(t *testing.T) {
	o := options{driver: harness.Binary(t), types: []string{"tape"}, vm: "vm"}
	if err := o.check(); err == nil || !strings.Contains(err.Error(), `"tape"`) || !strings.Contains(err.Error(), "lvm, disk and partition") {
		t.Errorf("got %v", err)
	}
}
