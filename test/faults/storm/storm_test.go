package storm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sync/errgroup"

	"github.com/datastore-csi/datastore-csi/test/faults/crash"
	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

const (
	mib  = int64(1) << 20
	pool = "pool"

	volumesEach, snapshotsEach = 6, 3
	// poolBytes is room for all that callers may make, where it can't be promised twice.
	poolBytes = 32 << 30
	// callsEach is how many steps a caller makes between two looks at everything.
	callsEach = 60
	// shortTime bounds the storms of every day: one that hasn't made all its calls by then ends in order all the same.
	shortTime = time.Minute
)

func TestMain(m *testing.M) {
	if crash.Asked() {
		os.Exit(crash.Run(os.Args))
	}
	os.Exit(harness.Main(m))
}

// number reads a variable of the environment.
func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

func full() bool { return os.Getenv("TEST_CRASH_POINTS") == "all" }

// weather is a kind of storm.
type weather struct {
	name    string
	callers int
	deaths  bool
	// short and long are how many calls are made on each row: each day, and in full; 0: none.
	short, long int
}

func weathers() []weather {
	return []weather{
		{"one caller and deaths", 1, true, 420, 3000},
		{"callers at once", 4, false, 960, 5000},
		{"callers at once and deaths", 4, true, 0, 20_000},
	}
}

// dailySeed is that of the storms of every day, which are to be the same ones until somebody changes them.
const dailySeed = 3

func TestAStormOfCallsWhileTheDriverAndItsToolsAreKilled(t *testing.T) {
	seed := uint64(number("TEST_STORM_SEED", dailySeed))
	if full() && os.Getenv("TEST_STORM_SEED") == "" {
		seed = rand.Uint64N(1_000_000)
	}
	fmt.Printf("storm: TEST_STORM_SEED=%d\n", seed)
	for _, w := range weathers() {
		ops := w.short
		if full() {
			ops = w.long
		}
		if ops = number("TEST_STORM_OPS", ops); ops == 0 {
			continue
		}
		t.Run(w.name, func(t *testing.T) {
			for i, row := range rows.All() {
				t.Run(row.Name(), func(t *testing.T) {
					// A program that starts holds for a moment what is open here: the driver of another row must not unmount
					// it then. Its own doesn't serve before it has started.
					if !w.deaths {
						t.Parallel()
					}
					blow(t, newSite(t, row, w, seed, uint64(i), ops))
				})
			}
		})
	}
}

// blow lets a storm pass.
func blow(t *testing.T, s *site) {
	t.Helper()
	begin := time.Now()
	err := s.storm(t.Context())
	line := fmt.Sprintf("%s: seed %d, %d calls, %d deaths, %d tools killed, %d looks at everything, %v", t.Name()[strings.Index(t.Name(), "/")+1:],
		s.seed, s.calls(), s.reaper.deaths, s.reaper.tools, s.looks, time.Since(begin).Round(time.Second))
	if len(s.callers) == 1 {
		line += fmt.Sprintf(", digest %x", s.callers[0].digest.Sum(nil))
	}
	fmt.Println("storm: " + line)
	if err != nil {
		s.report(t)
		t.Fatalf("%v\nthe same calls again: TEST_STORM_SEED=%d TEST_STORM_OPS=%d go test ./test/faults/storm -run '%s'", err, s.seed, s.ops, t.Name())
	}
}

// site is one driver with one datastore, and its callers.
type site struct {
	driver  *crash.Driver
	reaper  *reaper
	storage rows.Storage
	camera  harness.Camera
	callers []*caller
	weather weather
	seed    uint64
	ops     int
	looks   int
	kept    kept
	can     struct{ snapshots, clones, get, modify, subdirectories bool }
	// reflinks tells that images are copied while they are in use, subvolumes that sub-directories are.
	reflinks, subvolumes bool
}

// instant tells whether an object can be copied while it is in use.
func (s *site) instant(o *object) bool {
	if o.kind.Parameters["format"] == "subdirectory" {
		return s.subvolumes
	}
	return s.reflinks
}

func newSite(t *testing.T, row rows.Row, w weather, seed, turn uint64, ops int) *site {
	t.Helper()
	s := &site{
		storage: rows.Sized(row, poolBytes).Setup(t), weather: w, seed: seed, ops: ops,
		reflinks: row.Can().CopiesInUse, subvolumes: row.Can().CopiesTrees,
	}
	document := s.storage.Datastore(pool).With(400, "capacity", "overcommitPercent")
	s.driver = crash.New(t, crash.ForVolumes, harness.Options{Datastores: []harness.Datastore{document}, Metrics: true})
	dir := harness.Dir(t)
	s.reaper = newReaper(s.driver, harness.Binary(t), rand.New(rand.NewPCG(seed, turn)))
	s.camera = s.storage.Camera()
	s.camera.Under = append(s.camera.Under, dir)
	s.camera.Files = append(s.camera.Files, s.driver.StageRecords(), dir)
	for n := range w.callers {
		c := &caller{site: s, number: n, digest: fnv.New64a(), dir: filepath.Join(dir, strconv.Itoa(n)), random: rand.New(rand.NewPCG(seed, turn<<32|uint64(n+1)))}
		for i := range volumesEach + 1 { // one more for what is restored for a look
			for _, folder := range []string{"staging", "pod"} {
				if err := os.MkdirAll(filepath.Join(c.dir, strconv.Itoa(i), folder), 0o750); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := range volumesEach {
			name := fmt.Sprintf("vol-%d-first-%d", n, i)
			claim := harness.Claim{Name: name, Block: true, Bytes: mib, Parameters: map[string]string{"datastore": pool}}
			c.volumes = append(c.volumes, &object{name: name, worlds: only(world{phase: absent}), kind: claim, volume: c.prepare(i, claim)})
		}
		for range snapshotsEach {
			c.snapshots = append(c.snapshots, &object{name: "no snapshot", worlds: only(world{phase: absent})})
		}
		s.callers = append(s.callers, c)
	}
	t.Cleanup(func() { // of a storm that failed
		if t.Failed() {
			if err := harness.UnmountUnder(dir); err != nil {
				t.Log(err)
			}
		}
	})
	return s
}

// storm is the whole: rounds of calls and deaths, a look at everything after each, and in the end nothing is left.
func (s *site) storm(ctx context.Context) error {
	if err := s.reaper.calm(ctx); err != nil {
		return err
	}
	if err := s.capabilities(ctx); err != nil {
		return err
	}
	if err := s.first(ctx); err != nil {
		return fmt.Errorf("a first life: %w", err)
	}
	before, err := s.camera.Take()
	if err != nil {
		return err
	}
	end := time.Now().Add(shortTime)
	for made := 0; made < s.ops && (full() || os.Getenv("TEST_STORM_OPS") != "" || time.Now().Before(end)); made += callsEach * len(s.callers) {
		if err := s.round(ctx); err != nil {
			return err
		}
		if err := s.look(ctx, false); err != nil {
			return err
		}
	}
	if err := s.look(ctx, true); err != nil {
		return err
	}
	if err := s.each(ctx, func(ctx context.Context, c *caller) error { return c.leave(ctx) }); err != nil {
		return err
	}
	if err := s.compare(ctx); err != nil {
		return err
	}
	if err := s.kept.sweep(s.storage); err != nil {
		return err
	}
	return s.settles(ctx, before)
}

// settles waits until nothing is there that was not before. What is wiped lies on a block device until that is done: what was wiped
// before may be gone.
func (s *site) settles(ctx context.Context, before harness.Photo) error {
	if s.storage.Can().Images {
		return s.camera.Settles(ctx, before, settleLimit)
	}
	return harness.Eventually(ctx, settleLimit, func() error {
		now, err := s.camera.Take()
		if err != nil {
			return err
		}
		was := maps.Clone(before)
		maps.DeleteFunc(was, func(thing, _ string) bool { _, still := now[thing]; return !still })
		if diff := was.Diff(now); diff != "" {
			return fmt.Errorf("the machine looks different:\n%s", diff)
		}
		return nil
	})
}

// each runs something for all callers at once.
func (s *site) each(ctx context.Context, do func(context.Context, *caller) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range s.callers {
		group.Go(func() error { return do(ctx, c) })
	}
	return group.Wait()
}

// round lets all callers call while the reaper kills.
func (s *site) round(ctx context.Context) error {
	if len(s.callers) == 1 {
		return s.countedRound(ctx)
	}
	if !s.weather.deaths {
		return s.steps(ctx)
	}
	raging, stop := context.WithCancel(ctx)
	reaped := make(chan error, 1)
	go func() { reaped <- s.reaper.rage(raging) }()
	err := s.steps(ctx)
	stop()
	return errors.Join(err, <-reaped)
}

// steps lets all callers call at once.
func (s *site) steps(ctx context.Context) error {
	return s.each(ctx, func(ctx context.Context, c *caller) error {
		for range callsEach {
			if err := c.step(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// countedRound lets one caller call, and the driver die in some of the steps, at a change that is counted from the step's begin: so that the
// same numbers drawn are the same storm.
func (s *site) countedRound(ctx context.Context) error {
	c := s.callers[0]
	for range callsEach {
		if s.reaper.random.IntN(6) == 0 {
			if err := s.driver.Arm(1 + s.reaper.random.IntN(16)); err != nil {
				return err
			}
		}
		done, ended := make(chan error, 1), s.driver.Ended()
		go func() { done <- c.step(ctx) }()
		select {
		case err := <-done:
			done <- err
		case <-ended: // at once: what it had frozen is thawed by the next one
		}
		if !s.driver.Running() {
			s.reaper.deaths++
		}
		if err := errors.Join(s.reaper.calm(ctx), <-done); err != nil {
			return err
		}
	}
	return nil
}

// look settles everything, and compares the driver with the model.
func (s *site) look(ctx context.Context, all bool) error {
	s.looks++
	if err := s.reaper.calm(ctx); err != nil {
		return err
	}
	if err := s.each(ctx, func(ctx context.Context, c *caller) error { return c.rest(ctx, all) }); err != nil {
		return err
	}
	return s.compare(ctx)
}

func (s *site) calls() (n int) {
	for _, c := range s.callers {
		n += c.calls
	}
	return n
}

// report tells what each caller did last.
func (s *site) report(t *testing.T) {
	t.Helper()
	for _, c := range s.callers {
		t.Logf("caller %d:\n%s", c.number, strings.Join(c.trace, "\n"))
	}
}

// capabilities are asked for: a driver is called for what it says that it can do.
func (s *site) capabilities(ctx context.Context) error {
	answer, err := s.driver.ControllerGetCapabilities(ctx, &csi.ControllerGetCapabilitiesRequest{})
	for _, c := range answer.GetCapabilities() {
		switch c.GetRpc().GetType() {
		case csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT:
			s.can.snapshots = true
		case csi.ControllerServiceCapability_RPC_CLONE_VOLUME:
			s.can.clones = true
		case csi.ControllerServiceCapability_RPC_GET_VOLUME:
			s.can.get = true
		case csi.ControllerServiceCapability_RPC_MODIFY_VOLUME:
			s.can.modify = true
		}
	}
	if err != nil {
		return err
	}
	can := s.storage.Can() // the driver speaks for all types
	s.can.snapshots, s.can.clones = s.can.snapshots && can.Snapshots, s.can.clones && can.Clones
	s.can.subdirectories = can.Subdirectories
	return nil
}

// first makes and deletes one of each: some folders stay for ever.
func (s *site) first(ctx context.Context) error {
	c := s.callers[0]
	o := c.conceive(0, rand.New(rand.NewPCG(0, 0)))
	if s.can.modify {
		o.volume.Mutable = map[string]string{onDelete: archive}
	}
	for _, q := range []request{c.createVolume(o), c.attach(o, c.random), c.stage(o), c.publish(o)} {
		if err := c.until(ctx, o, q); err != nil {
			return err
		}
	}
	if err := c.down(ctx, o); err != nil {
		return err
	}
	if s.can.snapshots {
		shot := &object{name: "first", worlds: only(world{phase: absent}), src: o, age: o.endings, kind: o.kind}
		shot.snapshot = &harness.Snapshot{Client: s.driver.Client, Name: "first", ID: "first", Volume: o.volume.ID}
		if err := cmp.Or(c.until(ctx, shot, c.createSnapshot(shot)), c.until(ctx, shot, c.remove(shot))); err != nil {
			return err
		}
	}
	if err := c.until(ctx, o, c.remove(o)); err != nil {
		return err
	}
	return s.kept.sweep(s.storage)
}
