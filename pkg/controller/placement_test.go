package controller

import (
	"math"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

const gib = 1 << 30

var local = datastore.Capabilities{
	AccessTypes:  []v1alpha1.AccessType{v1alpha1.Filesystem, v1alpha1.Block},
	Formats:      []v1alpha1.VolumeFormat{v1alpha1.FormatImage},
	Provisioning: []v1alpha1.Provisioning{v1alpha1.Thin, v1alpha1.Thick},
	Filesystems:  []string{"ext4", "xfs"},
	Reach:        datastore.ReachHost,
	Expand:       true,
	Granularity:  4096,
	MinBytes: func(fs string) int64 {
		if fs == "xfs" {
			return 300 << 20
		}
		return 1 << 20
	},
}

func pool(name string, promisable, promised int64, volumes int, alter ...func(*candidate)) candidate {
	d := &v1alpha1.Datastore{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.DatastoreSpec{Type: v1alpha1.TypeDirectory}}
	d.SetDefaults()
	c := candidate{
		datastore: d, host: "node-1", capabilities: local, promised: promised, volumes: volumes,
		pool: v1alpha1.PoolStatus{Health: v1alpha1.Healthy, Promisable: v1alpha1.Bytes(promisable)},
	}
	for _, a := range alter {
		a(&c)
	}
	return c
}

func ask(alter ...func(*demand)) demand {
	d := demand{
		size: Range{Required: gib}, placement: mostFree,
		volume: datastore.Volume{
			Access: v1alpha1.Filesystem, Modes: []string{"SINGLE_NODE_WRITER"}, Filesystem: &v1alpha1.FilesystemSpec{Type: "ext4"},
		},
	}
	for _, a := range alter {
		a(&d)
	}
	return d
}

func TestPlaceTakesTheBest(t *testing.T) {
	onHost := func(h string) func(*candidate) { return func(c *candidate) { c.host = h } }
	for name, c := range map[string]struct {
		demand     demand
		candidates []candidate
		want       string
	}{
		"most-free takes the one with the most room": {ask(), []candidate{pool("a", 10*gib, 6*gib, 1), pool("b", 8*gib, 1*gib, 9)}, "b"},
		"spread takes the one with the fewest volumes": {
			ask(func(d *demand) { d.placement = spread }), []candidate{pool("a", 10*gib, 6*gib, 1), pool("b", 8*gib, 1*gib, 9)}, "a",
		},
		"a tie is decided by name": {ask(), []candidate{pool("b", 4*gib, 0, 0), pool("a", 4*gib, 0, 0)}, "a"},
		"the preferred host outweighs room": {
			ask(func(d *demand) { d.topology.Preferred = []string{"node-2", "node-1"} }),
			[]candidate{pool("a", 9*gib, 0, 0), pool("a", 2*gib, 0, 0, onHost("node-2"))},
			"a on host node-2",
		},
		"what has no room is passed over":    {ask(), []candidate{pool("a", 2*gib, 2*gib, 0), pool("b", gib, 0, 0)}, "b"},
		"exactly what is left is enough":     {ask(), []candidate{pool("a", 3*gib, 2*gib, 1)}, "a"},
		"a warning does not keep it from it": {ask(), []candidate{pool("a", gib, 0, 0, func(c *candidate) { c.pool.Health = v1alpha1.Warning })}, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			fits, _ := place(c.demand, c.candidates)
			if len(fits) == 0 || !strings.HasPrefix(fits[0].String(), c.want) {
				t.Errorf("got %v, want %s", fits, c.want)
			}
		})
	}
}

func TestPlaceSaysWhyNot(t *testing.T) {
	for name, c := range map[string]struct {
		demand    demand
		candidate candidate
		kind      fault.Kind
		says      string
	}{
		"no room":            {ask(), pool("a", gib, 1, 1), fault.Exhausted, "left"},
		"cordoned":           {ask(), pool("a", gib, 0, 0, func(c *candidate) { c.datastore.Spec.Maintenance = v1alpha1.Cordon }), fault.Exhausted, "cordoned"},
		"critical":           {ask(), pool("a", gib, 0, 0, func(c *candidate) { c.pool.Health = v1alpha1.Critical }), fault.Exhausted, "promises nothing new"},
		"unavailable":        {ask(), pool("a", gib, 0, 0, func(c *candidate) { c.pool.Health = v1alpha1.Unavailable }), fault.Unavailable, "unavailable"},
		"too many volumes":   {ask(), pool("a", gib, 0, 3, func(c *candidate) { c.datastore.Spec.Capacity.MaxVolumes = 3 }), fault.Exhausted, "maxVolumes"},
		"another host":       {ask(func(d *demand) { d.topology.Requisite = []string{"node-9"} }), pool("a", gib, 0, 0), fault.Exhausted, "node-9"},
		"another namespace":  {ask(func(d *demand) { d.namespace = "x" }), pool("a", gib, 0, 0, func(c *candidate) { c.datastore.Spec.AllowedNamespaces = []string{"y"} }), fault.Invalid, "namespace"},
		"many nodes":         {ask(func(d *demand) { d.volume.Modes = []string{"MULTI_NODE_MULTI_WRITER"} }), pool("a", gib, 0, 0), fault.Invalid, "MULTI_NODE_MULTI_WRITER"},
		"a file system":      {ask(func(d *demand) { d.volume.Filesystem.Type = "btrfs" }), pool("a", gib, 0, 0), fault.Invalid, "[ext4, xfs]"},
		"no room for thick":  {ask(func(d *demand) { d.volume.Provisioning = v1alpha1.Thick }), pool("a", 9*gib, 0, 0, func(c *candidate) { c.pool.Free = v1alpha1.Bytes(gib - 1) }), fault.Exhausted, "left"},
		"no host":            {ask(func(d *demand) { d.topology.Requisite = []string{"node-9"} }), pool("a", 0, 0, 0, func(c *candidate) { c.host = ""; c.pool = unreported(c.datastore) }), fault.Unavailable, "no host has reported"},
		"a limit too low":    {ask(func(d *demand) { d.size = Range{Limit: 100}; d.volume.Filesystem.Type = "xfs" }), pool("a", gib, 0, 0), fault.OutOfRange, "limit"},
		"more than a number": {ask(func(d *demand) { d.size = Range{Required: math.MaxInt64} }), pool("a", gib, 0, 0), fault.OutOfRange, "more than any volume"},
	} {
		t.Run(name, func(t *testing.T) {
			fits, refusals := place(c.demand, []candidate{c.candidate})
			if len(fits) > 0 || len(refusals) != 1 {
				t.Fatalf("fits %v, refusals %v", fits, refusals)
			}
			err := refuse(refusals)
			if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v (%v), want %v that says %q", err, fault.KindOf(err), c.kind, c.says)
			}
		})
	}
}

func TestRefuseNamesEveryCandidate(t *testing.T) {
	_, refusals := place(ask(), []candidate{
		pool("full", gib, gib, 1), pool("down", gib, 0, 0, func(c *candidate) { c.pool.Health = v1alpha1.Unavailable }),
	})
	err := refuse(refusals)
	if !fault.Is(err, fault.Exhausted) || !strings.Contains(err.Error(), "full") || !strings.Contains(err.Error(), "down") {
		t.Errorf("got %v", err)
	}
	many := make([]candidate, 5000)
	for i := range many {
		many[i] = pool("full", gib, gib, 1)
	}
	_, refusals = place(ask(), many)
	if err := refuse(refusals); !strings.Contains(err.Error(), "none of 5000") || !strings.HasSuffix(err.Error(), "and 4990 more") || len(err.Error()) > 2000 {
		t.Errorf("of 5000: %.3000s", err)
	}
	if err := refuse(nil); !fault.Is(err, fault.Exhausted) {
		t.Errorf("no candidates: %v", err)
	}
}

func TestRangeResolve(t *testing.T) {
	for name, c := range map[string]struct {
		in   Range
		fs   string
		want int64
		kind fault.Kind
	}{
		"nothing asked for is 1 GiB":                  {Range{}, "ext4", gib, 0},
		"what is asked for is rounded up":             {Range{Required: 5<<20 + 1}, "ext4", 5<<20 + 4096, 0},
		"what fits exactly stays":                     {Range{Required: 8 << 20, Limit: 8 << 20}, "ext4", 8 << 20, 0},
		"a limit below the default bounds it":         {Range{Limit: 100<<20 + 5}, "ext4", 100 << 20, 0},
		"xfs is rounded up to what it needs":          {Range{Required: 10 << 20}, "xfs", 300 << 20, 0},
		"xfs over the limit is out of range":          {Range{Required: 10 << 20, Limit: 20 << 20}, "xfs", 0, fault.OutOfRange},
		"no multiple below the limit is out of range": {Range{Required: 5<<20 + 1, Limit: 5<<20 + 2}, "", 0, fault.OutOfRange},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.in.resolve(local.Granularity, local.MinBytes(c.fs))
			if got != c.want || (err != nil) != (c.kind != 0) || (err != nil && !fault.Is(err, c.kind)) {
				t.Errorf("got %d, %v", got, err)
			}
			if err == nil && !c.in.holds(got) {
				t.Errorf("%d bytes are not within %+v", got, c.in)
			}
		})
	}
}

func TestATopologyInASentence(t *testing.T) {
	for name, c := range map[string]struct {
		hosts []string
		want  string
	}{
		"none is any":        {nil, "any host"},
		"one":                {[]string{"a"}, `"a"`},
		"some":               {[]string{"a", "b"}, `"a", "b"`},
		"many":               {[]string{"a", "b", "c", "d", "e", "f", "g"}, `"a", "b", "c", "d", "e" and 2 more`},
		"of others only":     {[]string{""}, "where the topology wants it, which names no host (datastore-csi.io/host)"},
		"a very long one":    {[]string{strings.Repeat("a", 1<<20)}, `"` + strings.Repeat("a", 63) + `"`},
		"an unprintable one": {[]string{"a\x1b"}, `"a\x1b"`},
	} {
		if got := (Topology{Requisite: c.hosts}).sentence(); got != c.want {
			t.Errorf("%s: %.200s", name, got)
		}
	}
}
