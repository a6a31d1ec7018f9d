package storm

import (
	"context"
	"fmt"
	"hash"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/status"

	"github.com/datastore-csi/datastore-csi/test/harness"
)

// caller owns some volumes and snapshots, and makes one call after the other.
type caller struct {
	*site
	number    int
	dir       string
	random    *rand.Rand
	volumes   []*object
	snapshots []*object

	calls, writes, made int
	last                *deed
	lost                bool // the last call has no answer
	trace               []string
	// digest is of all calls and their codes: equal for storms that went alike.
	digest hash.Hash64
}

// deed is a request of which the caller may think again.
type deed struct {
	object  *object
	request request
}

const traced = 60

func (c *caller) notef(format string, args ...any) {
	c.trace = append(c.trace, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	if len(c.trace) > traced {
		c.trace = c.trace[1:]
	}
}

func (c *caller) note(o *object, m move, err error, disturbed, lost bool) {
	if !lost { // how often a call is made again until it has an answer depends on the machine
		_, _ = fmt.Fprintln(c.digest, o.name, m.name, status.Code(err)) // a hash doesn't fail
	}
	answer := status.Code(err).String()
	if err != nil {
		answer += ": " + status.Convert(err).Message()
	}
	c.notef("%d %s: %s, was %v, disturbed %v: %.300s", c.calls, o.name, m.name, o.worlds, disturbed, answer)
}

// objects are all that the caller owns, in an order that doesn't change.
func (c *caller) objects() []*object { return slices.Concat(c.volumes, c.snapshots) }

// pause is what a caller waits before it asks again.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(20 * time.Millisecond):
		return nil
	}
}

// step makes one call, or a few. The same numbers are drawn whatever the model says, so that what one call answered doesn't change what
// the next ones are about.
func (c *caller) step(ctx context.Context) error {
	which, roll, detail := c.random.IntN(len(c.volumes)), c.random.IntN(100), c.random.Uint64()
	random := rand.New(rand.NewPCG(detail, uint64(which)))
	o := c.volumes[which]
	switch {
	case roll < 36:
		return c.forward(ctx, which, random)
	case roll < 54:
		return c.backward(ctx, which, random)
	case roll < 62:
		return c.use(o, random)
	case roll < 68:
		return c.act(ctx, o, c.expand(o, random))
	case roll < 75:
		return c.takeSnapshot(ctx, o, random)
	case roll < 79:
		return c.dropSnapshot(ctx, random)
	case roll < 86:
		return c.act(ctx, o, c.anyRequest(o, random)())
	case roll < 90:
		return c.again(ctx)
	case roll < 92:
		return c.other(ctx, o, random)
	case roll < 94:
		return c.mistake(ctx, random)
	case roll < 97:
		return c.glance(ctx, o, random)
	}
	return c.burst(ctx, o, random)
}

// act makes a call and remembers it.
func (c *caller) act(ctx context.Context, o *object, q request) error {
	c.last = &deed{o, q}
	return c.do(ctx, o, q)
}

// again repeats the last call. It is none where another volume has its place by now.
func (c *caller) again(ctx context.Context) error {
	if c.last == nil || !slices.Contains(c.objects(), c.last.object) {
		return nil
	}
	return c.do(ctx, c.last.object, c.last.request)
}

// some picks one of the states that an object may be in, the same for the same states.
func (o *object) some() world {
	all := slices.SortedFunc(maps.Keys(o.worlds), func(a, b world) int { return strings.Compare(a.String(), b.String()) })
	return all[0]
}

// forward goes on with a volume's life.
func (c *caller) forward(ctx context.Context, which int, random *rand.Rand) error {
	o := c.volumes[which]
	switch w := o.some(); {
	case o.gone() && !o.open():
		o = c.conceive(which, random)
		return c.act(ctx, o, c.createVolume(o))
	case w.phase != ready:
		return c.act(ctx, o, c.createVolume(o))
	case w.attached == "":
		return c.act(ctx, o, c.attach(o, random))
	case w.staged == "" || w.half:
		return c.act(ctx, o, c.stage(o))
	case !w.target:
		return c.act(ctx, o, c.publish(o))
	}
	return c.use(o, random)
}

// backward goes back.
func (c *caller) backward(ctx context.Context, which int, random *rand.Rand) error {
	o := c.volumes[which]
	switch w := o.some(); {
	case w.phase == absent && !o.open():
		return c.forward(ctx, which, random)
	case w.target:
		return c.act(ctx, o, c.unpublish(o))
	case w.staged != "":
		return c.act(ctx, o, c.unstage(o))
	case w.attached != "":
		return c.act(ctx, o, c.detach(o))
	}
	return c.act(ctx, o, c.remove(o))
}

// use writes to a volume that is published, or reads it.
func (c *caller) use(o *object, random *rand.Rand) error {
	switch published := o.worlds.all(func(w world) bool { return w.target }); {
	case o.usable() && random.IntN(3) > 0:
		return c.write(o, random.IntN(slots))
	case published:
		return c.read(o)
	}
	return nil
}

// conceive puts a new volume in the place of one that is gone: often one of the same name.
func (c *caller) conceive(which int, random *rand.Rand) *object {
	old := c.volumes[which]
	c.made++
	o := &object{name: fmt.Sprintf("vol-%d-%d", c.number, c.made), worlds: only(world{phase: absent})}
	named := func(copy *object) bool { return copy.src == old }
	if random.IntN(2) == 0 && !slices.ContainsFunc(c.objects(), named) { // a copy says whose it is by its name
		o.name = old.name
	}
	claim := c.claim(random)
	if from := c.origin(random); from != nil {
		claim, o.src, o.age = c.copyOf(from, random), from, from.endings
	}
	claim.Name = o.name
	if end := c.ends(random); end != "" && c.can.modify {
		claim.Mutable = map[string]string{onDelete: end}
	}
	o.kind, o.volume = claim, c.prepare(which, claim)
	c.volumes[which] = o
	return o
}

// prepare makes nothing but a volume's paths, which are those of the place.
func (c *caller) prepare(which int, claim harness.Claim) *harness.Volume {
	place := filepath.Join(c.dir, strconv.Itoa(which))
	return &harness.Volume{
		Claim: claim, Client: c.driver.Client, Host: c.driver.Host, ID: claim.Name,
		Staging: filepath.Join(place, "staging"), Target: filepath.Join(place, "pod", "target"),
	}
}

// takeSnapshot makes a snapshot of a volume, or asks for one again.
func (c *caller) takeSnapshot(ctx context.Context, of *object, random *rand.Rand) error {
	which := random.IntN(len(c.snapshots))
	if !c.can.snapshots {
		return c.use(of, random)
	}
	s := c.snapshots[which]
	if s.gone() && !s.open() {
		c.made++
		name := fmt.Sprintf("snap-%d-%d", c.number, c.made)
		s = &object{
			name: name, worlds: only(world{phase: absent}), src: of, age: of.endings, kind: of.kind,
			snapshot: &harness.Snapshot{Client: c.driver.Client, Name: name, ID: name, Volume: of.volume.ID},
		}
		c.snapshots[which] = s
	}
	return c.act(ctx, s, c.createSnapshot(s))
}

func (c *caller) dropSnapshot(ctx context.Context, random *rand.Rand) error {
	s := c.snapshots[random.IntN(len(c.snapshots))]
	if s.snapshot == nil {
		return nil
	}
	return c.act(ctx, s, c.remove(s))
}

// origin picks what a new volume is made as a copy of: most often nothing.
func (c *caller) origin(random *rand.Rand) *object {
	from := append(slices.Clone(c.snapshots), c.volumes...)
	o, want := from[random.IntN(len(from))], random.IntN(3) == 0
	w, sure := o.worlds.certain()
	if !want || !sure || w.phase != ready || o.open() || (o.snapshot != nil && !c.can.snapshots) || (o.volume != nil && !c.can.clones) {
		return nil
	}
	return o
}
