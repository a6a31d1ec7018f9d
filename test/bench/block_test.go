package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

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
