package conformance

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

// handles are volume IDs that nobody made.
func handles() map[string]string {
	return map[string]string{
		"a parent":         "../x",
		"the parent":       "..",
		"here":             ".",
		"an absolute path": "/etc/passwd",
		"a path within":    "volumes/x",
		"a link planted":   "evil",
		"a stranger":       "foreign",
		"a folder planted": "pvc-00000000-0000-4000-8000-000000000000",
		"the marker":       ".datastore-csi",
		"escaped":          "%2e%2e%2fx",
		"a NUL":            "pvc\x00/../x",
		"a line":           "pvc\nx",
		"an option":        "--help",
		"a shell":          "$(touch /tmp/x);`id`|x",
		"spaces":           "a b",
		"Unicode":          "pvc-ünï\u202ecode",
		"4 KiB":            strings.Repeat("a", 4096),
		"129 bytes":        strings.Repeat("a", 129),
		"a backslash":      `..\x`,
		"a glob":           "*",
	}
}

func TestAHostileVolumeHandleReachesNothing(t *testing.T) {
	onEachRow(t, func(t *testing.T, row rows.Row) {
		s := row.Setup(t)
		foreign := s.Foreign(t)
		b := bench{Driver: harness.StartDriver(t, harness.Options{Datastores: []harness.Datastore{s.Initialized(pool)}, Await: []string{pool}}), Storage: s}
		serving(t, b.Driver, pool)
		v := b.Volume(t, claim("ext4"))
		must(t, v.Up(t.Context()))
		camera := b.camera(filepath.Dir(v.Staging))
		camera = camera.And(foreign)
		before := photograph(t, camera)
		for name, id := range handles() {
			for call, err := range withID(t, v, id) {
				refused(t, fmt.Sprintf("%s of %s", call, name), err, wantFor(call))
			}
		}
		for call, err := range withID(t, v, "") {
			refused(t, call+" without a volume ID", err, code(codes.InvalidArgument))
		}
		if diff := before.Diff(photograph(t, camera)); diff != "" {
			t.Errorf("hostile handles changed the machine:\n%s", diff)
		}
		must(t, v.Down(t.Context()))
	})
}

// wantFor are the codes for a call that names a volume that isn't there, or can't be one. What undoes may find it undone.
func wantFor(call string) []codes.Code {
	switch call {
	case "delete", "detach", "unstage", "unpublish":
		return code(codes.OK, codes.NotFound, codes.InvalidArgument)
	}
	return code(codes.NotFound, codes.InvalidArgument)
}

// withID makes each call that names a volume with another ID, and otherwise as for v.
func withID(t *testing.T, v *harness.Volume, id string) map[string]error {
	t.Helper()
	other := *v
	other.ID = id
	// The volume's own paths must not suffer: these are others.
	dir := harness.Dir(t)
	other.Staging, other.Target = filepath.Join(dir, "staging"), filepath.Join(dir, "target")
	must(t, os.Mkdir(other.Staging, 0o750))
	defer func() { must(t, os.RemoveAll(dir)) }()
	ctx := t.Context()
	_, expand := other.Expand(ctx, gib)
	_, stats := v.Client.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: v.Target})
	return map[string]error{
		"attach": other.Attach(ctx), "stage": other.Stage(ctx), "publish": other.Publish(ctx), "expand": expand,
		"expand on the node": other.NodeExpand(ctx, gib), "stats": stats, "validate": validate(ctx, &other),
		"unpublish": other.Unpublish(ctx), "unstage": other.Unstage(ctx), "detach": other.Detach(ctx), "delete": other.Delete(ctx),
	}
}

func TestAHostileNameMakesAHarmlessVolumeOrNone(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		camera := b.camera()
		before := photograph(t, camera)
		for what, name := range handles() {
			v := b.Volume(t, harness.Claim{Name: name, Block: true, Bytes: mib, Parameters: in(pool)})
			err := v.Create(t.Context())
			refused(t, "create with the name of "+what, err, code(codes.OK, codes.InvalidArgument))
			if err != nil {
				continue
			}
			if strings.Trim(v.ID, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || strings.Contains(v.ID, "..") || len(v.ID) > 63 {
				t.Errorf("the name of %s became the volume ID %q", what, v.ID)
			}
			must(t, v.Delete(t.Context()))
		}
		_, err := b.CreateVolume(t.Context(), harness.Claim{Block: true, Parameters: in(pool)}.Request())
		refused(t, "create without a name", err, code(codes.InvalidArgument))
		must(t, camera.Settles(t.Context(), before, settleLimit))
	})
}

func TestAVolumeIDIsTheNameOrItsHash(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		hashed := "v-0123456789abcdef0123456789abcdef01234567"
		ids := map[string]string{}
		for _, name := range []string{harness.NewName(), "data-mysql-0", "Not a Label", hashed, strings.Repeat("x", 128)} {
			v := b.Volume(t, harness.Claim{Name: name, Block: true, Bytes: mib, Parameters: in(pool)})
			must(t, v.Create(t.Context()))
			label := strings.HasPrefix(name, "pvc-") || name == "data-mysql-0"
			if label != (v.ID == name) {
				t.Errorf("the name %q became the ID %q", name, v.ID)
			}
			if !label && (!strings.HasPrefix(v.ID, "v-") || len(v.ID) != 42 || v.ID == hashed) {
				t.Errorf("the name %q became the ID %q, want v- and 40 digits of its own", name, v.ID)
			}
			if other, taken := ids[v.ID]; taken {
				t.Errorf("the names %q and %q became one ID", name, other)
			}
			ids[v.ID] = name
			must(t, v.Delete(t.Context()))
		}
	})
}

func TestAbsurdRequestsAreRefusedAndSayWhatIsAllowed(t *testing.T) {
	type table map[string]struct {
		alter func(*csi.CreateVolumeRequest)
		want  []codes.Code
		says  []string
	}
	set := func(key, value string) func(*csi.CreateVolumeRequest) {
		return func(r *csi.CreateVolumeRequest) {
			r.Parameters = maps.Clone(r.Parameters)
			r.Parameters[key] = value
		}
	}
	size := func(required, limit int64) func(*csi.CreateVolumeRequest) {
		return func(r *csi.CreateVolumeRequest) {
			r.CapacityRange = &csi.CapacityRange{RequiredBytes: required, LimitBytes: limit}
		}
	}
	mount := func(fs string) func(*csi.CreateVolumeRequest) {
		return func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities = []*csi.VolumeCapability{harness.Claim{Filesystem: fs}.Capability()}
		}
	}
	invalid := code(codes.InvalidArgument)
	cases := table{
		"an unknown parameter":         {set("datastor", "x"), invalid, []string{"datastor", "datastoreSelector", "mkfsOptions"}},
		"an unknown datastore":         {set("datastore", "nowhere"), invalid, []string{"nowhere", pool}},
		"a hostile datastore":          {set("datastore", "../../etc"), invalid, nil},
		"name and selector":            {set("datastoreSelector", "tier=gold"), invalid, nil},
		"a placement":                  {set("placement", "cheapest"), invalid, []string{"most-free", "spread"}},
		"a provisioning":               {set("provisioning", "fat"), invalid, []string{"thin", "thick"}},
		"a format":                     {set("format", "qcow2"), invalid, []string{"image"}},
		"a file system":                {set("csi.storage.k8s.io/fstype", "ntfs"), invalid, []string{"ext4", "xfs", "btrfs"}},
		"two file systems":             {both(mount("ext4"), set("csi.storage.k8s.io/fstype", "xfs")), invalid, nil},
		"a file system in capability":  {mount("zfs; rm -rf /"), invalid, nil},
		"mkfs on another device":       {set("mkfsOptions", "-J device=/dev/sda"), invalid, nil},
		"mkfs with a folder":           {set("mkfsOptions", "-d /etc"), invalid, nil},
		"mkfs with a log device":       {both(mount("xfs"), set("mkfsOptions", "-l logdev=/dev/sda")), invalid, nil},
		"mkfs by force":                {set("mkfsOptions", "-F"), invalid, nil},
		"mkfs through a shell":         {set("mkfsOptions", "-m 0; reboot"), invalid, nil},
		"mkfs with a UUID":             {set("mkfsOptions", "-U clear"), invalid, nil},
		"no capability":                {func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = nil }, invalid, nil},
		"an empty capability":          {func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = []*csi.VolumeCapability{{}} }, invalid, nil},
		"a negative size":              {size(-1, 0), code(codes.InvalidArgument, codes.OutOfRange), nil},
		"a negative limit":             {size(0, -1), code(codes.InvalidArgument, codes.OutOfRange), nil},
		"a limit below the size":       {size(2*mib, mib), code(codes.InvalidArgument, codes.OutOfRange), nil},
		"a limit below any":            {size(0, 1), code(codes.OutOfRange), nil},
		"8 EiB":                        {size(1<<63-1, 0), code(codes.OutOfRange, codes.ResourceExhausted), nil},
		"more than the pool":           {size(1<<45, 0), code(codes.ResourceExhausted, codes.OutOfRange), nil},
		"a source that can't be":       {func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = fromSnapshot("snap-1") }, code(codes.InvalidArgument, codes.NotFound), nil},
		"another host's topology":      {topology("datastore-csi.io/host", "elsewhere"), code(codes.ResourceExhausted), []string{pool}},
		"an unknown topology":          {topology("example.com/zone", "a"), code(codes.ResourceExhausted, codes.InvalidArgument), nil},
		"a parameter that is too long": {set("mkfsOptions", strings.Repeat("-m 1 ", 2000)), invalid, nil},
		"mutable parameters":           {func(r *csi.CreateVolumeRequest) { r.MutableParameters = map[string]string{"iops": "5"} }, invalid, nil},
	}
	onEachBench(t, func(t *testing.T, b bench) {
		camera := b.camera()
		before := photograph(t, camera)
		for name, c := range cases {
			ask := claim("")
			ask.Bytes, ask.Name = 64*mib, harness.NewName()
			request := ask.Request()
			c.alter(request)
			_, err := b.CreateVolume(t.Context(), request)
			refused(t, name, err, c.want, c.says...)
		}
		if listed, err := b.Listed(t.Context()); err != nil || len(listed) > 0 {
			t.Errorf("after refusals there are volumes %v, %v", listed, err)
		}
		must(t, camera.Settles(t.Context(), before, settleLimit))
	})
}

func both(a, b func(*csi.CreateVolumeRequest)) func(*csi.CreateVolumeRequest) {
	return func(r *csi.CreateVolumeRequest) { a(r); b(r) }
}

func fromSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id},
	}}
}

func topology(key, value string) func(*csi.CreateVolumeRequest) {
	return func(r *csi.CreateVolumeRequest) {
		r.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: []*csi.Topology{{Segments: map[string]string{key: value}}}}
	}
}

// paths that a CO must never send, by what is wrong with them. Each is made under a folder of the test.
func paths(t *testing.T) map[string]string {
	t.Helper()
	dir := harness.Dir(t)
	link := filepath.Join(dir, "link")
	must(t, os.Symlink("/etc", link))
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, []byte("precious"), 0o600))
	full := filepath.Join(dir, "full")
	must(t, os.Mkdir(full, 0o750))
	must(t, os.WriteFile(filepath.Join(full, "precious"), []byte("precious"), 0o600))
	return map[string]string{
		"empty":               "",
		"relative":            "target",
		"with a parent in it": dir + "/../" + filepath.Base(dir) + "/x",
		"with a NUL":          dir + "/a\x00b",
		"the root":            "/",
		"a symbolic link":     link,
		"below a file":        file + "/x",
		"without its parent":  dir + "/no/such/parent",
		"too long":            dir + "/" + strings.Repeat("x", 5000),
		"of the kernel":       "/proc/self/mem",
		"a link to a process": "/proc/self/root",
		"with content in it":  full,
	}
}

func TestAHostilePathIsNeitherMountedOnNorRemoved(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		for _, c := range []harness.Claim{claim("ext4"), blockClaim()} {
			v := b.Volume(t, c)
			must(t, v.Create(t.Context()))
			must(t, v.Attach(t.Context()))
			bad := paths(t)
			// Not the storage: mounting and unmounting changes a volume's own bytes.
			dir := filepath.Dir(bad["a symbolic link"])
			camera := harness.Camera{Under: append(b.camera().Under, "/etc", dir), Files: []string{dir}, Views: []harness.View{b.proc}}
			before := photograph(t, camera)
			for name, path := range bad {
				hostileStaging(t, v, name, path)
			}
			must(t, camera.Settles(t.Context(), before, settleLimit))
			must(t, v.Stage(t.Context()))
			before = photograph(t, camera)
			for name, path := range bad {
				hostileTarget(t, v, name, path)
			}
			if diff := before.Diff(photograph(t, camera)); diff != "" {
				t.Errorf("hostile targets changed the machine:\n%s", diff)
			}
			must(t, v.Publish(t.Context()))
			must(t, v.Down(t.Context()))
		}
	})
}

// proc shows /proc, but for what drivers of other rows mount meanwhile on what /proc/self is to them.
func (b bench) proc(p harness.Photo) error {
	all, err := harness.Camera{Under: []string{"/proc"}}.Take()
	for thing, looks := range all {
		var pid int
		if n, _ := fmt.Sscanf(thing, "mount /proc/%d/", &pid); n == 0 || pid == b.PID() {
			p[thing] = looks
		}
	}
	return err
}

func hostileStaging(t *testing.T, v *harness.Volume, name, path string) {
	t.Helper()
	bad := *v
	bad.Staging = path
	want := code(codes.InvalidArgument, codes.FailedPrecondition)
	if name == "with content in it" || v.Block { // a mount hides it, and a block volume has no use for it
		want = append(want, codes.OK)
	}
	err := bad.Stage(t.Context())
	refused(t, "stage at a path that is "+name, err, want)
	if err == nil {
		must(t, bad.Unstage(t.Context()))
		return
	}
	if name != "empty" {
		refused(t, "unstage at a path that is "+name, bad.Unstage(t.Context()), code(codes.OK, codes.InvalidArgument, codes.FailedPrecondition))
	}
}

func hostileTarget(t *testing.T, v *harness.Volume, name, path string) {
	t.Helper()
	bad := *v
	bad.Target = path
	want := code(codes.InvalidArgument, codes.FailedPrecondition)
	switch name {
	case "without its parent", "below a file":
		want = append(want, codes.NotFound)
	case "with content in it", "of the kernel": // hidden by a mount for as long as that lasts
		want = append(want, codes.OK)
	}
	refused(t, "publish at a path that is "+name, bad.Publish(t.Context()), want)
	want = code(codes.OK, codes.InvalidArgument, codes.FailedPrecondition)
	if name == "empty" {
		want = code(codes.InvalidArgument)
	}
	refused(t, "unpublish at a path that is "+name, bad.Unpublish(t.Context()), want)
}

func TestARequestWithoutItsFieldsIsInvalid(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		v := b.Volume(t, claim("ext4"))
		must(t, v.Up(t.Context()))
		ctx := t.Context()
		calls := map[string]func(context.Context) error{
			"attach without a host": func(ctx context.Context) error {
				_, err := b.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: v.ID, VolumeCapability: v.Capability()})
				return err
			},
			"attach without a capability": func(ctx context.Context) error {
				_, err := b.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: v.ID, NodeId: b.Host})
				return err
			},
			"stage without a capability": func(ctx context.Context) error {
				_, err := b.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: v.ID, StagingTargetPath: v.Staging, PublishContext: v.PublishContext})
				return err
			},
			"publish without a capability": func(ctx context.Context) error {
				_, err := b.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: v.ID, StagingTargetPath: v.Staging, TargetPath: v.Target})
				return err
			},
			"validate without capabilities": func(ctx context.Context) error {
				_, err := b.ValidateVolumeCapabilities(ctx, &csi.ValidateVolumeCapabilitiesRequest{VolumeId: v.ID})
				return err
			},
			"expand without a size": func(ctx context.Context) error {
				_, err := b.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: v.ID})
				return err
			},
			"stats without a path": func(ctx context.Context) error {
				_, err := b.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: v.ID})
				return err
			},
		}
		for name, call := range calls {
			refused(t, name, call(ctx), code(codes.InvalidArgument))
		}
		_, err := b.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: v.ID, TargetPath: v.Target, VolumeCapability: v.Capability()})
		refused(t, "publish without a staging path", err, code(codes.FailedPrecondition, codes.InvalidArgument))
		_, err = b.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: v.ID, VolumePath: filepath.Dir(v.Target)})
		refused(t, "stats of a path where the volume isn't", err, code(codes.NotFound, codes.InvalidArgument))
		must(t, v.Down(ctx))
	})
}
