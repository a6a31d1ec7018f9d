package driver

import (
	"reflect"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/controller"
	"github.com/datastore-csi/datastore-csi/pkg/datastore"
	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

const writer = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER

func aVolume(from *v1alpha1.VolumeSource) *v1alpha1.DatastoreVolume {
	return &v1alpha1.DatastoreVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "v"},
		Spec: v1alpha1.DatastoreVolumeSpec{
			Worker: v1alpha1.Worker{Host: "node-1"}, Source: from, Access: v1alpha1.VolumeAccess{Type: v1alpha1.Filesystem},
			Attachments: map[string]v1alpha1.Attachment{"node-1": {}}, Filesystem: &v1alpha1.FilesystemSpec{Type: "ext4"},
		},
		Status: v1alpha1.DatastoreVolumeStatus{Worker: v1alpha1.WorkerStatus{Phase: v1alpha1.Ready, Size: v1alpha1.Bytes(9)}},
	}
}

func ofSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
}

func ofVolume(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}}
}

func TestAContentSourceIsAskedForAndAnsweredBack(t *testing.T) {
	for name, c := range map[string]struct {
		asked  *csi.VolumeContentSource
		source *controller.Source
		record *v1alpha1.VolumeSource
	}{
		"none":       {nil, nil, nil},
		"a snapshot": {ofSnapshot("s"), &controller.Source{Kind: v1alpha1.SourceSnapshot, ID: "s"}, &v1alpha1.VolumeSource{Kind: v1alpha1.SourceSnapshot, Name: "s"}},
		"a volume":   {ofVolume("w"), &controller.Source{Kind: v1alpha1.SourceVolume, ID: "w"}, &v1alpha1.VolumeSource{Kind: v1alpha1.SourceVolume, Name: "w"}},
		"nothing":    {&csi.VolumeContentSource{}, &controller.Source{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{volume: aVolume(c.record)}
			s := served(f)
			made, err := s.CreateVolume(t.Context(), &csi.CreateVolumeRequest{
				Name: "v", VolumeCapabilities: []*csi.VolumeCapability{mounted(writer, "")}, VolumeContentSource: c.asked,
				MutableParameters: map[string]string{"onDelete": "retain"},
			})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(f.created.Source, c.source) || f.created.Mutable["onDelete"] != "retain" {
				t.Errorf("asked was %+v, %v", f.created.Source, f.created.Mutable)
			}
			got, err := s.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: "v"})
			if err != nil || got.GetVolume().String() != made.GetVolume().String() || strings.Join(got.GetStatus().GetPublishedNodeIds(), " ") != "node-1" {
				t.Errorf("ControllerGetVolume answers %v, %v", got, err)
			}
			listed, err := s.ListVolumes(t.Context(), &csi.ListVolumesRequest{})
			if err != nil || listed.GetEntries()[0].GetVolume().String() != made.GetVolume().String() {
				t.Errorf("ListVolumes answers %v, %v", listed, err)
			}
			if c.record != nil && made.GetVolume().GetContentSource().String() != c.asked.String() {
				t.Errorf("answered back is %v", made.GetVolume().GetContentSource())
			}
		})
	}
}

func TestCallsAboutAVolumeThatIsNotThere(t *testing.T) {
	s := served(&fake{})
	for name, c := range map[string]struct {
		call func(id string) error
	}{
		"get": {func(id string) error {
			_, err := s.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: id})
			return err
		}},
		"validate": {func(id string) error {
			_, err := s.ValidateVolumeCapabilities(t.Context(), &csi.ValidateVolumeCapabilitiesRequest{
				VolumeId: id, VolumeCapabilities: []*csi.VolumeCapability{mounted(writer, "")},
			})
			return err
		}},
	} {
		for id, want := range map[string]codes.Code{"v": codes.NotFound, "": codes.InvalidArgument, "../etc": codes.InvalidArgument} {
			if err := c.call(id); status.Code(err) != want {
				t.Errorf("%s %q: %v, want %v", name, id, err, want)
			}
		}
	}
}

func TestModifyOnTheWire(t *testing.T) {
	f := &fake{}
	s := served(f)
	q := &csi.ControllerModifyVolumeRequest{VolumeId: "v", MutableParameters: map[string]string{"wipe": "none"}}
	if _, err := s.ControllerModifyVolume(t.Context(), q); err != nil || f.modified["wipe"] != "none" {
		t.Errorf("asked was %v, %v", f.modified, err)
	}
	for kind, want := range map[fault.Kind]codes.Code{fault.Invalid: codes.InvalidArgument, fault.NotFound: codes.NotFound, fault.Busy: codes.Aborted} {
		f.fails = fault.New(kind, "no")
		if _, err := s.ControllerModifyVolume(t.Context(), q); status.Code(err) != want {
			t.Errorf("%v: %v", kind, err)
		}
	}
	if _, err := s.ControllerModifyVolume(t.Context(), &csi.ControllerModifyVolumeRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("without an ID: %v", err)
	}
	release, err := s.hold("v")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := s.ControllerModifyVolume(t.Context(), q); status.Code(err) != codes.Aborted {
		t.Errorf("while another call works on it: %v", err)
	}
}

func TestValidateConfirmsWhatAVolumeCanBecome(t *testing.T) {
	f := &fake{volume: aVolume(nil)}
	q := &csi.ValidateVolumeCapabilitiesRequest{
		VolumeId: "v", VolumeCapabilities: []*csi.VolumeCapability{mounted(writer, "ext4")}, MutableParameters: map[string]string{"onDelete": "retain"},
	}
	answer, err := served(f).ValidateVolumeCapabilities(t.Context(), q)
	if err != nil || answer.GetConfirmed().GetMutableParameters()["onDelete"] != "retain" {
		t.Errorf("answered is %v, %v", answer, err)
	}
	f.refuses = fault.New(fault.Invalid, "it can't explode")
	answer, err = served(f).ValidateVolumeCapabilities(t.Context(), q)
	if err != nil || answer.GetConfirmed() != nil || answer.GetMessage() != "it can't explode" {
		t.Errorf("answered is %v, %v", answer, err)
	}
}

func TestWhatAVolumeCannotBeUsedAsIsNotConfirmed(t *testing.T) {
	tree := aVolume(nil)
	tree.Spec.Filesystem, tree.Spec.Format = nil, v1alpha1.FormatSubdirectory
	flagged := func(flag string) *csi.VolumeCapability {
		c := mounted(writer, "")
		c.GetMount().MountFlags = []string{flag}
		return c
	}
	for name, c := range map[string]struct {
		volume     *v1alpha1.DatastoreVolume
		capability *csi.VolumeCapability
		confirmed  bool
	}{
		"an image, mounted":                         {aVolume(nil), mounted(writer, ""), true},
		"an image with its file system":             {aVolume(nil), mounted(writer, "ext4"), true},
		"an image with another":                     {aVolume(nil), mounted(writer, "xfs"), false},
		"an image with its mount option":            {aVolume(nil), flagged("data=journal"), true},
		"a mounted volume as a block device":        {aVolume(nil), block(writer), false},
		"a volume of one host by many":              {aVolume(nil), mounted(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY, ""), false},
		"a sub-directory, mounted":                  {tree, mounted(writer, ""), true},
		"a sub-directory with a file system":        {tree, mounted(writer, "ext4"), false},
		"a sub-directory with a mount's option":     {tree, flagged("noatime"), true},
		"a sub-directory with a file system's flag": {tree, flagged("data=journal"), false},
	} {
		answer, err := served(&fake{volume: c.volume}).ValidateVolumeCapabilities(t.Context(), &csi.ValidateVolumeCapabilitiesRequest{
			VolumeId: "v", VolumeCapabilities: []*csi.VolumeCapability{c.capability},
		})
		if err != nil || (answer.GetConfirmed() != nil) != c.confirmed || (answer.GetMessage() == "") != c.confirmed {
			t.Errorf("%s: %v, %v", name, answer, err)
		}
	}
}

func TestOnlyImagesAreExpandedOnTheNode(t *testing.T) {
	for _, onNode := range []bool{true, false} {
		f := &fake{expanded: controller.Expanded{Bytes: 7, OnNode: onNode}}
		answer, err := served(f).ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: "v", CapacityRange: &csi.CapacityRange{RequiredBytes: 7}})
		if err != nil || answer.GetCapacityBytes() != 7 || answer.GetNodeExpansionRequired() != onNode {
			t.Errorf("answered is %v, %v", answer, err)
		}
	}
}

func TestHealthOnTheWire(t *testing.T) {
	f := &fake{next: "more", problems: []v1alpha1.Problem{
		{Status: "DATA_LOSS", Reason: "Gone", Message: "restore it"},
		{Status: "INACCESSIBLE", Reason: "Down", Message: "mount it"},
		{Status: "DEGRADED", Reason: "Slow", Message: "wait"},
		{Status: "UNHEARD_OF", Reason: "New", Message: "?"},
	}}
	got, err := served(f).ControllerGetVolumeHealth(t.Context(), &csi.ControllerGetVolumeHealthRequest{VolumeId: "v"})
	if err != nil {
		t.Fatal(err)
	}
	want := []csi.VolumeHealthErrorType{
		csi.VolumeHealthErrorType_DATA_LOSS, csi.VolumeHealthErrorType_INACCESSIBLE, csi.VolumeHealthErrorType_DEGRADED,
		csi.VolumeHealthErrorType_UNKNOWN_VOLUME_HEALTH_TYPE,
	}
	for i, e := range got.GetVolumeHealth().GetHealthStatuses() {
		if e.GetStatus() != want[i] || e.GetReason() != f.problems[i].Reason || e.GetMessage() != f.problems[i].Message {
			t.Errorf("%d: %v", i, e)
		}
	}
	listed, err := served(f).ControllerListVolumeHealth(t.Context(), &csi.ControllerListVolumeHealthRequest{MaxEntries: 3, StartingToken: "token"})
	if err != nil || listed.GetNextToken() != "more" || listed.GetEntries()[0].String() != got.GetVolumeHealth().String() || f.token != "token" || f.max != 3 {
		t.Errorf("listed is %v, %v; asked was %q, %d", listed, err, f.token, f.max)
	}
	f.fails = fault.New(fault.Busy, "a stranger's token")
	if _, err := served(f).ControllerListVolumeHealth(t.Context(), &csi.ControllerListVolumeHealthRequest{}); status.Code(err) != codes.Aborted {
		t.Errorf("got %v", err)
	}
}

func TestCapabilitiesDeriveFromTheTypes(t *testing.T) {
	local := datastore.Capabilities{Reach: datastore.ReachHost}
	with := func(change func(*datastore.Capabilities)) datastore.Capabilities {
		c := local
		change(&c)
		return c
	}
	for name, c := range map[string]struct {
		capabilities datastore.Capabilities
		has          []string
		lacks        []string
	}{
		"what every type has":               {local, []string{"GET_VOLUME ", "GET_VOLUME_HEALTH", "LIST_VOLUME_HEALTH"}, []string{"SNAPSHOT", "CLONE", "MODIFY", "EXPAND"}},
		"snapshots":                         {with(func(c *datastore.Capabilities) { c.Snapshot = true }), []string{"CREATE_DELETE_SNAPSHOT", "LIST_SNAPSHOTS", "GET_SNAPSHOT", "SNAPSHOT_ACCESSIBILITY_CONSTRAINTS"}, []string{"CLONE"}},
		"clones":                            {with(func(c *datastore.Capabilities) { c.Clone = true }), []string{"CLONE_VOLUME"}, []string{"SNAPSHOT"}},
		"ends":                              {with(func(c *datastore.Capabilities) { c.OnDelete = []v1alpha1.DeletePolicy{v1alpha1.RetainData} }), []string{"MODIFY_VOLUME"}, nil},
		"wipes":                             {with(func(c *datastore.Capabilities) { c.Wipe = []v1alpha1.WipePolicy{v1alpha1.WipeZero} }), []string{"MODIFY_VOLUME"}, nil},
		"snapshots that every host reaches": {datastore.Capabilities{Snapshot: true}, []string{"CREATE_DELETE_SNAPSHOT"}, []string{"ACCESSIBILITY_CONSTRAINTS"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := &Driver{features: union([]datastore.Type{{Name: "t", Capabilities: func(v1alpha1.DatastoreSpec) datastore.Capabilities { return c.capabilities }}})}
			controller, err := (&controllerServer{driver: d}).ControllerGetCapabilities(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			plugin, err := (&identity{driver: d}).GetPluginCapabilities(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			var words []string
			for _, r := range controller.GetCapabilities() {
				words = append(words, r.GetRpc().GetType().String())
			}
			for _, p := range plugin.GetCapabilities() {
				words = append(words, p.GetService().GetType().String())
			}
			text := strings.Join(words, " ") + " "
			for _, w := range c.has {
				if !strings.Contains(text, w) {
					t.Errorf("%s is not advertised: %s", w, text)
				}
			}
			for _, w := range c.lacks {
				if strings.Contains(text, w) {
					t.Errorf("%s is advertised: %s", w, text)
				}
			}
		})
	}
}
