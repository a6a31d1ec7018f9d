package discover

import (
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
	"github.com/datastore-csi/datastore-csi/pkg/linux/filesystem"
)

// deviceSpec is a document's for a disk or partition. What is blank is made what it is to be.
func (f Found) deviceSpec(t v1alpha1.DatastoreType) v1alpha1.DatastoreSpec {
	s := v1alpha1.DatastoreSpec{Type: t}
	switch t {
	case v1alpha1.TypePartition:
		s.Partition = &v1alpha1.PartitionSpec{Device: f.Path}
		if f.Holds == "" {
			s.Partition.FSType, s.Partition.Provision = string(filesystem.XFS), v1alpha1.ProvisionIfEmpty
		}
	case v1alpha1.TypeDisk:
		s.Disk = &v1alpha1.DiskSpec{Devices: []string{f.Path}}
	case v1alpha1.TypeLVM:
		s.LVM = &v1alpha1.LVMSpec{
			VolumeGroup: strings.ReplaceAll(f.Name, "-", "_"), Devices: []string{f.Path}, Provision: v1alpha1.ProvisionIfEmpty,
		}
	}
	return s
}
