package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/datastore-csi/datastore-csi/test/harness"
	"github.com/datastore-csi/datastore-csi/test/harness/rows"
)

const (
	writer       = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	reader       = csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY
	singleWriter = csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
	multiWriter  = csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER
	manyReaders  = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	manyOne      = csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER
	manyWriters  = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
)

// tryWrite writes into a published volume.
func tryWrite(v *harness.Volume, target string) error {
	if v.Block {
		return (harness.Data{Seed: "x", Bytes: 4096}).WriteDevice(target, 0)
	}
	path := filepath.Join(target, "written")
	if err := (harness.Data{Seed: "x", Bytes: 10}).WriteFile(path); err != nil {
		return err
	}
	return os.Remove(path)
}

// forbidden are the kernel's answers to writing what is read-only.
func forbidden(err error) bool {
	return errors.Is(err, unix.EROFS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}

func TestAVolumeIsAsWritableAsItWasAskedFor(t *testing.T) {
	cases := []struct {
		name            string
		mode            harness.Mode
		attach, publish func(*harness.Volume, context.Context) error
		writable        bool
	}{
		{"one writer", writer, (*harness.Volume).Attach, (*harness.Volume).Publish, true},
		{"one single writer", singleWriter, (*harness.Volume).Attach, (*harness.Volume).Publish, true},
		{"several writers", multiWriter, (*harness.Volume).Attach, (*harness.Volume).Publish, true},
		{"published read-only", writer, (*harness.Volume).Attach, (*harness.Volume).PublishReadOnly, false},
		{"attached read-only", writer, (*harness.Volume).AttachReadOnly, (*harness.Volume).PublishReadOnly, false},
		{"reader only", reader, (*harness.Volume).Attach, (*harness.Volume).PublishReadOnly, false},
		{"reader only, published as it is", reader, (*harness.Volume).Attach, (*harness.Volume).Publish, false},
		{"reader only, attached read-only", reader, (*harness.Volume).AttachReadOnly, (*harness.Volume).PublishReadOnly, false},
	}
	onEachBench(t, func(t *testing.T, b bench) {
		for i, c := range cases {
			for _, fs := range []string{b.filesystem(i), ""} {
				t.Run(c.name+" "+fs, func(t *testing.T) {
					ask := blockClaim()
					if fs != "" {
						ask = claim(fs)
					}
					ask.Mode = c.mode
					v := b.Volume(t, ask)
					must(t, v.Create(t.Context()))
					must(t, c.attach(v, t.Context()))
					must(t, v.Stage(t.Context()))
					must(t, c.publish(v, t.Context()))
					switch err := tryWrite(v, v.Target); {
					case c.writable && err != nil:
						t.Errorf("it can't be written: %v", err)
					case !c.writable && !forbidden(err):
						t.Errorf("writing what is read-only: %v", err)
					}
					must(t, v.Down(t.Context()))
				})
			}
		}
	})
}

// A second target: the tables of NodePublishVolume in the specification.
func TestASecondTargetFollowsTheTableOfTheSpecification(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		for _, block := range []bool{false, true} {
			for mode, want := range map[harness.Mode]codes.Code{
				writer: codes.FailedPrecondition, singleWriter: codes.FailedPrecondition, multiWriter: codes.OK,
			} {
				t.Run(fmt.Sprintf("%v block=%v", mode, block), func(t *testing.T) { secondTarget(t, b, mode, block, want) })
			}
		}
	})
}

func secondTarget(t *testing.T, b bench, mode harness.Mode, block bool, want codes.Code) {
	ctx := t.Context()
	c := claim("ext4")
	if block {
		c = blockClaim()
	}
	c.Mode = mode
	v := b.Volume(t, c)
	must(t, v.Up(ctx))
	_, err := b.NodePublishVolume(ctx, v.PublishRequest(v.Target, true))
	refused(t, "the same target, now read-only", err, code(codes.AlreadyExists))
	other := harness.Claim{Block: !block, Mode: mode}
	request := v.PublishRequest(v.Target, false)
	request.VolumeCapability = other.Capability()
	_, err = b.NodePublishVolume(ctx, request)
	refused(t, "the same target, another access type", err, code(codes.AlreadyExists, codes.InvalidArgument, codes.FailedPrecondition))
	must(t, tryWrite(v, v.Target))

	second := filepath.Join(filepath.Dir(filepath.Dir(v.Target)), "second")
	_, err = b.NodePublishVolume(ctx, v.PublishRequest(second, true))
	refused(t, "a second target", err, code(want))
	if want != codes.OK {
		if _, err := os.Lstat(second); !os.IsNotExist(err) {
			t.Errorf("the refused target is there: %v", err)
		}
		must(t, v.Down(ctx))
		return
	}
	if err := tryWrite(v, second); !forbidden(err) {
		t.Errorf("writing to the second, read-only target: %v", err)
	}
	must(t, tryWrite(v, v.Target))
	must(t, v.UnpublishFrom(ctx, second))
	must(t, tryWrite(v, v.Target))
	must(t, v.Down(ctx))
}

func TestWhatSeveralHostsWouldNeedIsRefused(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		v := b.Volume(t, claim("ext4"))
		must(t, v.Create(ctx))
		for _, mode := range []harness.Mode{manyReaders, manyOne, manyWriters} {
			c := claim("ext4")
			c.Name, c.Mode = harness.NewName(), mode
			_, err := b.CreateVolume(ctx, c.Request())
			refused(t, "create with "+mode.String(), err, code(codes.InvalidArgument), mode.String())
			_, err = b.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: v.ID, NodeId: b.Host, VolumeCapability: c.Capability()})
			refused(t, "attach with "+mode.String(), err, code(codes.InvalidArgument))
			answer, err := b.ValidateVolumeCapabilities(ctx, &csi.ValidateVolumeCapabilitiesRequest{
				VolumeId: v.ID, VolumeCapabilities: []*csi.VolumeCapability{c.Capability()},
			})
			must(t, err)
			if answer.GetConfirmed() != nil || answer.GetMessage() == "" {
				t.Errorf("%v is confirmed, or nothing says why not: %v", mode, answer)
			}
		}
		must(t, v.Delete(ctx))
	})
}

// mountOptions are those that the kernel lists for a path.
func mountOptions(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[4] == path {
			return strings.Split(f[5], ",")
		}
	}
	t.Fatalf("%s is not mounted", path)
	return nil
}

func TestMountOptionsAreAllowListed(t *testing.T) {
	onEachBench(t, func(t *testing.T, b bench) {
		ctx := t.Context()
		for fs := range rows.Filesystems() {
			v := b.Volume(t, claim(fs))
			must(t, v.Up(ctx))
			if got := mountOptions(t, v.Target); !slices.Contains(got, "nosuid") || !slices.Contains(got, "nodev") {
				t.Errorf("%s: user data is mounted with %v, without nosuid and nodev", fs, got)
			}
			must(t, v.Down(ctx))

			c := claim(fs)
			c.MountFlags = []string{"noatime", "suid", "dev"}
			v = b.Volume(t, c)
			must(t, v.Up(ctx))
			got := mountOptions(t, v.Target)
			if !slices.Contains(got, "noatime") || slices.Contains(got, "nosuid") || slices.Contains(got, "nodev") {
				t.Errorf("%s: asked for noatime, suid and dev, mounted with %v", fs, got)
			}
			must(t, v.Down(ctx))
		}
		camera := b.Camera()
		before := photograph(t, camera)
		for _, flag := range []string{
			"bind", "remount", "loop=/etc/shadow", "logdev=/dev/sda", "journal_path=/dev/sda", "device=/dev/sda", "rbind",
			"x-mount.mkdir", "noatime,bind", "-o", "", "no\x00atime", "subvol=../..", "context=system_u:object_r:x", strings.Repeat("a", 5000),
		} {
			for fs := range rows.Filesystems() {
				c := claim(fs)
				c.MountFlags = []string{flag}
				c.Name = harness.NewName()
				_, err := b.CreateVolume(ctx, c.Request())
				refused(t, fmt.Sprintf("a %s volume with mount option %.20q", fs, flag), err, code(codes.InvalidArgument))
			}
		}
		must(t, camera.Settles(ctx, before, settleLimit))
	})
}
