package sanity_test

// notServed says why specs are skipped: the driver doesn't advertise what they test.
type notServed struct {
	why   string
	specs []string
}

const (
	controller      = "Controller Service [Controller Server] "
	listSnapshots   = "ListSnapshots [Controller Server] "
	getSnapshot     = "GetSnapshot [Controller Server] "
	deleteSnapshot  = "DeleteSnapshot [Controller Server] "
	createSnapshot  = "CreateSnapshot [Controller Server] "
	modifyVolume    = "ModifyVolume [Controller Server] "
	volumeHealth    = "ControllerGetVolumeHealth [Controller Server] "
	allHealth       = "ControllerListVolumeHealth [Controller Server] "
	groupController = "GroupController Service [GroupController Server] "
	groupSnapshots  = "GroupController Service [GroupController VolumeGroupSnapshots] "
	node            = "Node Service "
)

// expectedSkips is the written list: each spec that is skipped, and why. A spec that is skipped and not
// listed fails the test, and so does one that is listed and runs: its entry goes when its capability
// comes.
func expectedSkips() map[string]string {
	skips := map[string]string{}
	for _, group := range []notServed{
		{"snapshots are not served yet (CREATE_DELETE_SNAPSHOT)", snapshotSpecs()},
		{"listing snapshots is not served yet (LIST_SNAPSHOTS)", []string{
			listSnapshots + "should return appropriate values (no optional values added)",
			listSnapshots + "should return snapshots that match the specified snapshot id",
			listSnapshots + "should return empty when the specified snapshot id does not exist",
			listSnapshots + "should return snapshots that match the specified source volume id",
			listSnapshots + "should return empty when the specified source volume id does not exist",
			listSnapshots + "check the presence of new snapshots in the snapshot list",
			listSnapshots + "should return next token when a limited number of entries are requested",
		}},
		{"snapshots are not served yet (GET_SNAPSHOT)", []string{
			getSnapshot + "should return an error",
			getSnapshot + "should return snapshot that match the specified snapshot id",
			getSnapshot + "should return an error when the specified snapshot id does not exist",
		}},
		{"clones are not served yet (CLONE_VOLUME)", []string{
			controller + "CreateVolume should create volume from an existing source volume",
			controller + "CreateVolume should fail when the volume source volume is not found",
		}},
		{"changing a volume's attributes is not served yet (MODIFY_VOLUME)", []string{
			controller + "CreateVolume should create volume with a volume attribute class",
			controller + "CreateVolume should not create volume with an invalid volume attribute class",
			modifyVolume + "should fail if no volume id is given",
			modifyVolume + "should fail if volume does not exist",
			modifyVolume + "should fail if specified mutable parameters are not supported by the volume",
			modifyVolume + "should modify a volume created without a volume attribute class",
			modifyVolume + "should modify a volume created with a volume attribute class",
			modifyVolume + "should fail to modify a volume created with a volume attribute class if new mutable parameters are not supported by volume",
		}},
		{"the health of volumes is not served yet (GET_VOLUME_HEALTH, LIST_VOLUME_HEALTH, GET_STORAGE_HEALTH)", []string{
			volumeHealth + "should fail when no volume id is provided",
			volumeHealth + "should return health for a valid volume",
			allHealth + "should return appropriate response",
			node + "NodeGetVolumeHealth should fail when no volume id is provided",
			node + "NodeGetVolumeHealth should return health for a valid volume",
			node + "NodeGetStorageHealth should return appropriate response",
		}},
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

func snapshotSpecs() []string {
	return []string{
		controller + "CreateVolume should create volume from an existing source snapshot",
		controller + "CreateVolume should fail when the volume source snapshot is not found",
		deleteSnapshot + "should fail when no snapshot id is provided",
		deleteSnapshot + "should succeed when an invalid snapshot id is used",
		deleteSnapshot + "should return appropriate values (no optional values added)",
		createSnapshot + "should fail when no name is provided",
		createSnapshot + "should fail when no source volume id is provided",
		createSnapshot + "should succeed when requesting to create a snapshot with already existing name and same source volume ID",
		createSnapshot + "should fail when requesting to create a snapshot with already existing name and different source volume ID",
		createSnapshot + "should succeed when creating snapshot with maximum-length name",
		createSnapshot + "should succeed when creating a snapshot with accessibility requirements",
	}
}
