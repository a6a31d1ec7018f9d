package controller

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// candidate is a pool that a volume might be placed on, as the records say at one moment.
type candidate struct {
	datastore    *v1alpha1.Datastore
	host         string
	pool         v1alpha1.PoolStatus
	capabilities datastore.Capabilities
	// promised bytes and volumes.
	promised int64
	volumes  int
}

func (c candidate) String() string {
	if c.host == "" {
		return c.datastore.Name
	}
	return c.datastore.Name + " on host " + c.host
}

// room returns the bytes that can still be promised; a thick volume takes its own at once, so there must be
// as many free too.
func (c candidate) room(p v1alpha1.Provisioning) int64 {
	room := max(0, c.pool.Promisable.Value()-c.promised)
	if p == v1alpha1.Thick {
		room = min(room, c.pool.Free.Value())
	}
	return room
}

// demand is what a volume needs of a pool.
type demand struct {
	size      Range
	volume    datastore.Volume // without its size
	namespace string
	topology  Topology
	placement placement
}

// fit is a candidate that can take the volume, and the size that it would have there.
type fit struct {
	candidate
	bytes int64
}

// refusal says why a candidate cannot take the volume.
type refusal struct {
	candidate candidate
	err       error
}

// place returns the candidates that can take a volume, best first, and why the others cannot. It only
// looks at its arguments.
func place(d demand, candidates []candidate) (fits []fit, refusals []refusal) {
	for _, c := range candidates {
		bytes, err := d.judge(c)
		if err != nil {
			refusals = append(refusals, refusal{c, err})
			continue
		}
		fits = append(fits, fit{c, bytes})
	}
	slices.SortStableFunc(fits, func(a, b fit) int {
		return cmp.Or(cmp.Compare(d.topology.rank(a.host), d.topology.rank(b.host)), d.placement.compare(a, b),
			cmp.Compare(a.datastore.Name, b.datastore.Name), cmp.Compare(a.host, b.host))
	})
	return fits, refusals
}

// judge filters: what can the datastore do, may it be used, can it be reached, is there room.
func (d demand) judge(c candidate) (int64, error) {
	v := d.volume
	v.Provisioning = cmp.Or(v.Provisioning, c.datastore.Spec.Volumes.Provisioning)
	v.Format = cmp.Or(v.Format, c.datastore.Spec.Volumes.Format)
	if lacks := c.capabilities.Missing(v); len(lacks) > 0 {
		return 0, fault.New(fault.Invalid, "%s", strings.Join(lacks, "; "))
	}
	if lacks := missingModes(c.capabilities, v.Modes); lacks != "" {
		return 0, fault.New(fault.Invalid, "%s", lacks)
	}
	bytes, err := d.size.resolve(c.capabilities, filesystemOf(v))
	if err != nil {
		return 0, err
	}
	if allowed := c.datastore.Spec.AllowedNamespaces; len(allowed) > 0 && !slices.Contains(allowed, d.namespace) {
		return 0, fault.New(fault.Invalid, "namespace %q is not among its allowed namespaces %v", d.namespace, allowed)
	}
	if c.host != "" && !d.topology.allows(c.host) {
		return 0, fault.New(fault.Exhausted, "it cannot be reached from %s", strings.Join(d.topology.Requisite, ", "))
	}
	return bytes, c.accepts(bytes, c.room(v.Provisioning))
}

// accepts says whether a pool takes anything new, and that much.
func (c candidate) accepts(bytes, room int64) error {
	switch {
	case c.pool.Health == v1alpha1.Unavailable:
		return fault.New(fault.Unavailable, "it is unavailable: %s", findings(c.pool))
	case c.datastore.Spec.Maintenance == v1alpha1.Cordon:
		return fault.New(fault.Exhausted, "it is cordoned (spec.maintenance)")
	case c.pool.Health == v1alpha1.Critical:
		return fault.New(fault.Exhausted, "it promises nothing new: %s", findings(c.pool))
	case c.datastore.Spec.Capacity.MaxVolumes > 0 && c.volumes >= int(c.datastore.Spec.Capacity.MaxVolumes):
		return fault.New(fault.Exhausted, "it has %d volumes, which is its limit (spec.capacity.maxVolumes)", c.volumes)
	case bytes > room:
		return fault.New(fault.Exhausted, "%d bytes are asked for, %d of its %d promisable bytes are left",
			bytes, room, c.pool.Promisable.Value())
	}
	return nil
}

func findings(p v1alpha1.PoolStatus) string {
	var out []string
	for _, f := range p.Findings {
		out = append(out, f.Message)
	}
	return strings.Join(out, "; ")
}

func filesystemOf(v datastore.Volume) string {
	if v.Filesystem == nil {
		return ""
	}
	return v.Filesystem.Type
}

// multiNode is how the names of access modes begin that several hosts share.
const multiNode = "MULTI_NODE_"

// missingModes says which access modes volumes of that reach cannot have.
func missingModes(c datastore.Capabilities, modes []string) string {
	if c.Reach != datastore.ReachHost {
		return ""
	}
	for _, m := range modes {
		if strings.HasPrefix(m, multiNode) {
			return fmt.Sprintf("access mode %s needs a volume that several hosts reach; these are reached by one host only, ask for a SINGLE_NODE_ mode", m)
		}
	}
	return ""
}

func (t Topology) allows(host string) bool {
	return len(t.Requisite) == 0 || slices.Contains(t.Requisite, v1alpha1.HostSegment(host))
}

// rank is a host's place among the preferred ones.
func (t Topology) rank(host string) int {
	if i := slices.Index(t.Preferred, v1alpha1.HostSegment(host)); i >= 0 {
		return i
	}
	return math.MaxInt
}

// compare puts the better of two first.
func (p placement) compare(a, b fit) int {
	if p == spread {
		return cmp.Or(cmp.Compare(a.volumes, b.volumes), cmp.Compare(b.room(v1alpha1.Thin), a.room(v1alpha1.Thin)))
	}
	return cmp.Compare(b.room(v1alpha1.Thin), a.room(v1alpha1.Thin))
}

// refuse makes one error of why no candidate fits. A cause that goes away by itself or by somebody's
// hand outweighs one that does not: the caller may try again.
func refuse(refusals []refusal) error {
	if len(refusals) == 0 {
		return fault.New(fault.Exhausted, "no datastore has a pool that could take it")
	}
	if len(refusals) == 1 {
		return fault.Wrap(refusals[0].err, "use datastore", refusals[0].candidate.String())
	}
	kinds := map[fault.Kind]bool{}
	texts := make([]string, len(refusals))
	for i, r := range refusals {
		kinds[fault.KindOf(r.err)] = true
		texts[i] = r.candidate.String() + ": " + r.err.Error()
	}
	kind := fault.Internal
	for _, k := range []fault.Kind{fault.Exhausted, fault.Unavailable, fault.OutOfRange, fault.Invalid} {
		if kinds[k] {
			kind = k
			break
		}
	}
	return fault.New(kind, "none of %d candidates fits: %s", len(refusals), strings.Join(texts, "; "))
}
