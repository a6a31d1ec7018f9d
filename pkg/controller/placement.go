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
	volume    datastore.Volume // without its size; Format, Provisioning and Wipe "" are the datastore's
	wish      wish
	mutable   map[string]string // as they were given
	source    *origin           // nil for an empty volume
	namespace string
	topology  Topology
	placement placement
	// capable are the pools that can copy at one instant, for a sentence.
	capable map[v1alpha1.VolumeFormat][]string
}

// fit is a candidate that can take the volume, and the volume as it would be there.
type fit struct {
	candidate
	bytes  int64
	volume datastore.Volume
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
		f, err := d.judge(c)
		if err != nil {
			refusals = append(refusals, refusal{c, err})
			continue
		}
		fits = append(fits, f)
	}
	slices.SortStableFunc(fits, func(a, b fit) int {
		return cmp.Or(cmp.Compare(d.topology.rank(a.host), d.topology.rank(b.host)), d.placement.compare(a, b),
			cmp.Compare(a.datastore.Name, b.datastore.Name), cmp.Compare(a.host, b.host))
	})
	return fits, refusals
}

// judge filters: what can the datastore do, may it be used, can it be reached, is there room.
func (d demand) judge(c candidate) (fit, error) {
	v, err := d.shape(c.datastore.Spec)
	if err != nil {
		return fit{}, err
	}
	if err := d.able(c.capabilities, v); err != nil {
		return fit{}, err
	}
	bytes, err := d.size.resolve(c.capabilities.Granularity, leastBytes(c.capabilities, v))
	if err != nil {
		return fit{}, err
	}
	if allowed := c.datastore.Spec.AllowedNamespaces; len(allowed) > 0 && !slices.Contains(allowed, d.namespace) {
		return fit{}, fault.New(fault.Invalid, "namespace %.100q is not among its allowed namespaces %v", d.namespace, allowed)
	}
	if c.host != "" && !d.topology.allows(c.host) {
		return fit{}, d.unreachable()
	}
	if err := c.answers(); err != nil {
		return fit{}, err
	}
	if err := d.served(c, v); err != nil {
		return fit{}, err
	}
	v.Bytes = bytes
	if largest := c.pool.Largest.Value(); largest > 0 && v.Takes() > largest && v.Takes() <= c.room(v.Provisioning) {
		return fit{}, fault.New(fault.Exhausted, "%d bytes are needed in one piece, the largest free piece has %d", v.Takes(), largest)
	}
	return fit{c, bytes, v}, c.accepts(v.Takes(), c.room(v.Provisioning))
}

// able says what volumes of a type can never be.
func (d demand) able(c datastore.Capabilities, v datastore.Volume) error {
	if lacks := c.Missing(v); len(lacks) > 0 {
		return fault.New(fault.Invalid, "%s", strings.Join(lacks, "; "))
	}
	if lacks := missingModes(c, v.Modes); lacks != "" {
		return fault.New(fault.Invalid, "%s", lacks)
	}
	if d.source != nil && !d.source.copiedBy(c) {
		return fault.New(fault.Invalid, "its type makes no copies of a %s", strings.ToLower(string(d.source.kind)))
	}
	return ends(c, v.OnDelete, v.Wipe)
}

// served says what a pool that answers lacks of what others of its type have.
func (d demand) served(c candidate, v datastore.Volume) error {
	if v.Quota == v1alpha1.QuotaRequired && !slices.Contains(c.pool.Features, v1alpha1.SubdirectoryQuota) {
		return fault.New(fault.Invalid, "the size of sub-directories can't be enforced there: mount its file system with project quotas "+
			"(option prjquota of xfs and ext4) or enable them (`btrfs quota enable PATH`), or ask for %s: none", paramQuota)
	}
	if v.Wipe == v1alpha1.WipeZero {
		if err := zeroes(v.Format, c.pool.Features); err != nil {
			return err
		}
	}
	if d.source == nil {
		return nil
	}
	return copyable(d.source.String(), v.Format, d.source.users, c.pool.Features, d.capable)
}

func (d demand) unreachable() error {
	if d.source != nil {
		return fault.New(fault.Exhausted, "a copy lies where its source lies, %s on host %q, and that cannot be reached from %s",
			d.source, d.source.host, d.topology.sentence())
	}
	return fault.New(fault.Exhausted, "it cannot be reached from %s", d.topology.sentence())
}

// answers says whether a pool can be used now.
func (c candidate) answers() error {
	if c.pool.Health == v1alpha1.Unavailable {
		return fault.New(fault.Unavailable, "it is unavailable: %s", findings(c.pool))
	}
	return nil
}

// open says whether a pool takes anything new.
func (c candidate) open() error {
	switch {
	case c.datastore.DeletionTimestamp != nil:
		return fault.New(fault.Exhausted, "it was removed, and stays only for what lies on it")
	case c.datastore.Spec.Maintenance == v1alpha1.Cordon:
		return fault.New(fault.Exhausted, "it is cordoned (spec.maintenance)")
	case c.pool.Health == v1alpha1.Critical:
		return fault.New(fault.Exhausted, "it promises nothing new: %s", findings(c.pool))
	}
	return c.answers()
}

// accepts says whether a pool takes another volume, and that much.
func (c candidate) accepts(bytes, room int64) error {
	if err := c.open(); err != nil {
		return err
	}
	switch {
	case c.datastore.Spec.Capacity.MaxVolumes > 0 && c.volumes >= int(c.datastore.Spec.Capacity.MaxVolumes):
		return fault.New(fault.Exhausted, "it has %d volumes, which is its limit (spec.capacity.maxVolumes)", c.volumes)
	case bytes > room:
		return fault.New(fault.Exhausted, "%d bytes are needed, %d of its %d promisable bytes are left",
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

// sentence names some of the hosts from which something must be usable.
func (t Topology) sentence() string {
	const most, longest = 5, 63
	var names []string
	for _, h := range t.Requisite[:min(most, len(t.Requisite))] {
		names = append(names, fmt.Sprintf("%.*q", longest, h))
	}
	switch more := len(t.Requisite) - most; {
	case len(t.Requisite) == 0:
		return "any host"
	case len(t.Requisite) == 1 && t.Requisite[0] == "":
		return "where the topology wants it, which names no host (" + v1alpha1.TopologyKey + ")"
	case more > 0:
		return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), more)
	}
	return strings.Join(names, ", ")
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

// mostRefusals bounds how many candidates an error tells of.
const mostRefusals = 10

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
	var texts []string
	for i, r := range refusals {
		kinds[fault.KindOf(r.err)] = true
		if i < mostRefusals {
			texts = append(texts, r.candidate.String()+": "+r.err.Error())
		}
	}
	if more := len(refusals) - mostRefusals; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
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
