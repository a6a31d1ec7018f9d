package btrfs

import (
	"context"
	"fmt"
	"math"
	"os"
	"unsafe"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Quotas are the quotas of a btrfs (btrfs-quota(8)).
type Quotas struct {
	// Enabled tells that each subvolume has a qgroup whose limit holds.
	Enabled bool
	// Simple tells that an extent counts where it was made first, not wherever it is referred to.
	Simple bool
	// Inconsistent tells that what is counted may be wrong until a rescan.
	Inconsistent bool
}

// Flags of the status item (linux/btrfs_tree.h).
const (
	statusOn           = 1 << 0
	statusRescan       = 1 << 1
	statusInconsistent = 1 << 2
	statusSimple       = 1 << 3
	statusFields       = 4
	statusFlags        = 2
)

// QuotasOf tells the state of the quotas of the btrfs that an open file lies on.
func QuotasOf(f *os.File) (Quotas, error) {
	status, err := quotaItem(f, qgroupStatus, 0)
	if err != nil || len(status) < statusFields {
		return Quotas{}, failed("ask about the quotas at", f, "", err)
	}
	flags := status[statusFlags]
	return Quotas{
		Enabled: flags&statusOn != 0, Simple: flags&statusSimple != 0,
		Inconsistent: flags&(statusInconsistent|statusRescan) != 0,
	}, nil
}

// Usage is what a subvolume uses, and its limit. It is of the last transaction, some seconds old.
type Usage struct {
	// LimitBytes of what the subvolume refers to; 0 is none.
	LimitBytes int64
	// UsedBytes is what the subvolume refers to, OwnBytes the part that no other one refers to.
	UsedBytes, OwnBytes int64
}

const (
	limitsReferenced = 1 << 0 // BTRFS_QGROUP_LIMIT_MAX_RFER
	infoFields       = 5
	limitFields      = 5
)

// UsageOf returns the usage of the subvolume that an open file is in. Without quotas it is zero.
func UsageOf(f *os.File) (Usage, error) {
	id, err := ID(f)
	if err != nil {
		return Usage{}, err
	}
	return usageOf(f, id)
}

// UsageWithNested is UsageOf with what the subvolumes use that are nested in it, which its limit doesn't bind.
func UsageWithNested(f *os.File) (Usage, error) {
	id, err := ID(f)
	if err != nil {
		return Usage{}, err
	}
	sum, err := usageOf(f, id)
	if err != nil {
		return Usage{}, err
	}
	for _, d := range descendants(f, id) {
		if d.err != nil {
			return Usage{}, failed("look for subvolumes nested in", f, "", d.err)
		}
		u, err := usageOf(f, d.id)
		if err != nil {
			return Usage{}, err
		}
		sum.UsedBytes += u.UsedBytes
		sum.OwnBytes += u.OwnBytes
	}
	return sum, nil
}

func usageOf(f *os.File, id uint64) (Usage, error) {
	info, err := quotaItem(f, qgroupInfo, id)
	if err != nil {
		return Usage{}, failed("read the usage of subvolume", f, "", err)
	}
	limit, err := quotaItem(f, qgroupLimits, id)
	if err != nil {
		return Usage{}, failed("read the limit of subvolume", f, "", err)
	}
	var u Usage
	if len(info) >= infoFields {
		u.UsedBytes, u.OwnBytes = clamp(info[1]), clamp(info[3])
	}
	if len(limit) >= limitFields && limit[0]&limitsReferenced != 0 {
		u.LimitBytes = clamp(limit[1])
	}
	return u, nil
}

// SetLimit limits the subvolume that an open directory is in to that many bytes, as it counts what it refers to; 0
// lifts the limit. Without quotas it is fault.Precondition.
func SetLimit(ctx context.Context, subvolume *os.File, bytes int64) error {
	if bytes < 0 {
		return fault.New(fault.Invalid, "limit subvolume %s to %d bytes: no limit is negative", subvolume.Name(), bytes)
	}
	a := qgroupLimit{flags: limitsReferenced, maxReferenced: uint64(bytes)}
	if bytes == 0 {
		a.maxReferenced = math.MaxUint64 // clears it (fs/btrfs/qgroup.c, btrfs_limit_qgroup)
	}
	what := fmt.Sprintf("limit subvolume to %d bytes", bytes)
	err := step.Do(ctx, what, func() error { return ioctl(subvolume, iocLimit, unsafe.Pointer(&a)) })
	return failed(what+":", subvolume, "", err)
}

func clamp(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
