package sanity_test

// notServed says why specs are skipped: the driver doesn't advertise what they test.
type notServed struct {
	why   string
	specs []string
}

const (
	controller      = "Controller Service [Controller Server] "
	groupController = "GroupController Service [GroupController Server] "
	groupSnapshots  = "GroupController Service [GroupController VolumeGroupSnapshots] "
)

// copySpecs are the specs that make snapshots and copies, which sub-directories have on btrfs only.
const copySpecs = `(^| )(Create|Delete|List|Get)Snapshots? \[Controller|should create volume from an existing source`

// snapshotSpecs are those that make snapshots.
const snapshotSpecs = `(^| )(Create|Delete|List|Get)Snapshots? \[Controller|should create volume from an existing source snapshot`

// expectedSkips is the written list: each spec that is skipped, and why. A spec that is skipped and not
// listed fails the test, and so does one that is listed and runs: its entry goes when its capability
// comes.
func expectedSkips() map[string]string {
	skips := map[string]string{}
	for _, group := range []notServed{
		{"group snapshots are not served yet (GROUP_CONTROLLER_SERVICE)", []string{
			groupController + "GroupControllerGetCapabilities should return appropriate capabilities",
			groupSnapshots + "CreateVolumeGroupSnapshot should fail when no name is provided",
			groupSnapshots + "GetVolumeGroupSnapshot should fail when no volume id is provided",
			groupSnapshots + "GetVolumeGroupSnapshot should fail when an invalid volume id is used",
			groupSnapshots + "DeleteVolumeGroupSnapshot should fail when no volume id is provided",
			groupSnapshots + "DeleteVolumeGroupSnapshot should succeed when an invalid volume id is used",
		}},
		{"csi-test itself has it switched off (a pending spec)", []string{
			controller + "ListVolumes pagination should detect volumes added between pages and accept tokens when the last volume from a page is deleted",
		}},
	} {
		for _, spec := range group.specs {
			skips[spec] = group.why
		}
	}
	return skips
}
