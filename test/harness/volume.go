package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/uuid"
)

// Mode is an access mode.
type Mode = csi.VolumeCapability_AccessMode_Mode

// Claim is what a user asks for.
type Claim struct {
	Name         string
	Bytes, Limit int64
	// Filesystem is the capability's fs_type; Block asks for a raw device instead.
	Filesystem string
	Block      bool
	// Mode: default SINGLE_NODE_WRITER.
	Mode       Mode
	MountFlags []string
	Parameters map[string]string
	// Mutable are the mutable parameters.
	Mutable map[string]string
	// From is what the volume starts as a copy of; see Snapshot.Source and Volume.Source.
	From *csi.VolumeContentSource
}

// NewName gives a volume name as external-provisioner makes it.
func NewName() string { return "pvc-" + uuid.NewString() }

// Capability is the claim's volume capability.
func (c Claim) Capability() *csi.VolumeCapability {
	mode := c.Mode
	if mode == csi.VolumeCapability_AccessMode_UNKNOWN {
		mode = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	}
	capability := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode}}
	if c.Block {
		capability.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
		return capability
	}
	capability.AccessType = &csi.VolumeCapability_Mount{
		Mount: &csi.VolumeCapability_MountVolume{FsType: c.Filesystem, MountFlags: c.MountFlags},
	}
	return capability
}

// Request is the CreateVolume request for the claim.
func (c Claim) Request() *csi.CreateVolumeRequest {
	request := &csi.CreateVolumeRequest{
		Name: c.Name, Parameters: c.Parameters, MutableParameters: c.Mutable, VolumeContentSource: c.From,
		VolumeCapabilities: []*csi.VolumeCapability{c.Capability()},
	}
	if c.Bytes > 0 || c.Limit > 0 {
		request.CapacityRange = &csi.CapacityRange{RequiredBytes: c.Bytes, LimitBytes: c.Limit}
	}
	return request
}

// Volume is a claim and what became of it, with the paths that a CO would use for it. Its methods make one call each
// and may be repeated.
type Volume struct {
	Claim
	Client *Client
	Host   string
	// ID, Size and Answer are set by Create.
	ID     string
	Size   int64
	Answer *csi.Volume
	// PublishContext is set by Attach.
	PublishContext map[string]string
	// Staging is a folder that exists; Target doesn't, its parent does.
	Staging, Target string
}

// Volume prepares a volume for a claim; nothing is called. An empty name is filled in.
func (d *Driver) Volume(t testing.TB, c Claim) *Volume {
	t.Helper()
	if c.Name == "" {
		c.Name = NewName()
	}
	v, err := NewVolume(d.Client, d.Host, Dir(t), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // so that a failed test can't keep the pool busy
		for _, path := range []string{v.Target, v.Staging} {
			if err := unmountAll(path); err != nil && !t.Failed() {
				t.Errorf("unmount %s: %v", path, err)
			}
		}
	})
	return v
}

// NewVolume prepares a volume whose paths lie in dir.
func NewVolume(client *Client, host, dir string, c Claim) (*Volume, error) {
	v := &Volume{
		Claim: c, Client: client, Host: host,
		Staging: filepath.Join(dir, "staging"), Target: filepath.Join(dir, "pod", "target"),
	}
	for _, folder := range []string{v.Staging, filepath.Dir(v.Target)} {
		if err := os.MkdirAll(folder, 0o750); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// Create calls CreateVolume.
func (v *Volume) Create(ctx context.Context) error {
	answer, err := v.Client.CreateVolume(ctx, v.Request())
	if err != nil {
		return err
	}
	v.Answer = answer.GetVolume()
	v.ID, v.Size = v.Answer.GetVolumeId(), v.Answer.GetCapacityBytes()
	return nil
}

// Attach calls ControllerPublishVolume.
func (v *Volume) Attach(ctx context.Context) error { return v.attach(ctx, false) }

// AttachReadOnly calls ControllerPublishVolume with readonly.
func (v *Volume) AttachReadOnly(ctx context.Context) error { return v.attach(ctx, true) }

func (v *Volume) attach(ctx context.Context, readOnly bool) error {
	answer, err := v.Client.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{
		VolumeId: v.ID, NodeId: v.Host, VolumeCapability: v.Capability(), Readonly: readOnly,
		VolumeContext: v.Answer.GetVolumeContext(),
	})
	if err == nil {
		v.PublishContext = answer.GetPublishContext()
	}
	return err
}

// Stage calls NodeStageVolume.
func (v *Volume) Stage(ctx context.Context) error {
	_, err := v.Client.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
		VolumeId: v.ID, StagingTargetPath: v.Staging, VolumeCapability: v.Capability(),
		PublishContext: v.PublishContext, VolumeContext: v.Answer.GetVolumeContext(),
	})
	return err
}

// PublishRequest is the NodePublishVolume request for a target.
func (v *Volume) PublishRequest(target string, readOnly bool) *csi.NodePublishVolumeRequest {
	return &csi.NodePublishVolumeRequest{
		VolumeId: v.ID, StagingTargetPath: v.Staging, TargetPath: target, VolumeCapability: v.Capability(), Readonly: readOnly,
		PublishContext: v.PublishContext, VolumeContext: v.Answer.GetVolumeContext(),
	}
}

// Publish calls NodePublishVolume.
func (v *Volume) Publish(ctx context.Context) error {
	_, err := v.Client.NodePublishVolume(ctx, v.PublishRequest(v.Target, false))
	return err
}

// PublishReadOnly calls NodePublishVolume with readonly.
func (v *Volume) PublishReadOnly(ctx context.Context) error {
	_, err := v.Client.NodePublishVolume(ctx, v.PublishRequest(v.Target, true))
	return err
}

// Unpublish calls NodeUnpublishVolume.
func (v *Volume) Unpublish(ctx context.Context) error { return v.UnpublishFrom(ctx, v.Target) }

// UnpublishFrom calls NodeUnpublishVolume for another target.
func (v *Volume) UnpublishFrom(ctx context.Context, target string) error {
	_, err := v.Client.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: v.ID, TargetPath: target})
	return err
}

// Unstage calls NodeUnstageVolume.
func (v *Volume) Unstage(ctx context.Context) error {
	_, err := v.Client.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: v.ID, StagingTargetPath: v.Staging})
	return err
}

// Detach calls ControllerUnpublishVolume.
func (v *Volume) Detach(ctx context.Context) error {
	_, err := v.Client.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: v.ID, NodeId: v.Host})
	return err
}

// Delete calls DeleteVolume.
func (v *Volume) Delete(ctx context.Context) error {
	_, err := v.Client.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v.ID})
	return err
}

// Expand calls ControllerExpandVolume and, where that says that it is needed, nothing else yet: see NodeExpand.
func (v *Volume) Expand(ctx context.Context, bytes int64) (nodeToo bool, err error) {
	answer, err := v.Client.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{
		VolumeId: v.ID, CapacityRange: &csi.CapacityRange{RequiredBytes: bytes}, VolumeCapability: v.Capability(),
	})
	if err != nil {
		return false, err
	}
	if answer.GetCapacityBytes() < bytes {
		return false, fmt.Errorf("expanded to %d bytes, asked for %d", answer.GetCapacityBytes(), bytes)
	}
	v.Size = answer.GetCapacityBytes()
	return answer.GetNodeExpansionRequired(), nil
}

// NodeExpand calls NodeExpandVolume for the published volume.
func (v *Volume) NodeExpand(ctx context.Context, bytes int64) error {
	answer, err := v.Client.NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{
		VolumeId: v.ID, VolumePath: v.Target, StagingTargetPath: v.Staging,
		CapacityRange: &csi.CapacityRange{RequiredBytes: bytes}, VolumeCapability: v.Capability(),
	})
	if err == nil && answer.GetCapacityBytes() < bytes {
		return fmt.Errorf("the node expanded to %d bytes, asked for %d", answer.GetCapacityBytes(), bytes)
	}
	return err
}

// Up makes, attaches, stages and publishes the volume.
func (v *Volume) Up(ctx context.Context) error {
	return inOrder(ctx, v.Create, v.Attach, v.Stage, v.Publish)
}

// Down ends the life of a volume that is up.
func (v *Volume) Down(ctx context.Context) error {
	return inOrder(ctx, v.Unpublish, v.Unstage, v.Detach, v.Delete)
}

func inOrder(ctx context.Context, calls ...func(context.Context) error) error {
	for _, call := range calls {
		if err := call(ctx); err != nil {
			return err
		}
	}
	return nil
}
