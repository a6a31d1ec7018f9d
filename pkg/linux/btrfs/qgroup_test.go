package btrfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/btrfs"
)

func TestASubvolumeIsLimited(t *testing.T) {
	dir, ctx := filesystem(t), t.Context()
	run(t, "btrfs", "quota", "enable", dir)
	top := opened(t, dir)
	if q, err := btrfs.QuotasOf(top); !q.Enabled || q.Simple || err != nil {
		t.Fatalf("quotas %+v, %v", q, err)
	}
	must(t, btrfs.Create(ctx, top, "a"))
	a := opened(t, dir, "a")
	must(t, btrfs.SetLimit(ctx, a, 16*mib))
	wantLimit(t, a, 16*mib)
	if took := fill(t, filepath.Join(dir, "a", "data"), 32*mib); took > 16*mib || took < 14*mib {
		t.Errorf("%d bytes could be written", took)
	}
	must(t, unix.Syncfs(int(top.Fd())))
	if u, err := btrfs.UsageOf(a); u.UsedBytes < 14*mib || u.UsedBytes > 16*mib || u.OwnBytes < 14*mib || err != nil {
		t.Errorf("usage %+v, %v", u, err)
	}
	must(t, btrfs.SetLimit(ctx, a, 24*mib))
	if took := fill(t, filepath.Join(dir, "a", "more"), 32*mib); took > 10*mib || took < 6*mib {
		t.Errorf("with the larger limit %d bytes more could be written", took)
	}
	must(t, btrfs.SetLimit(ctx, a, 0))
	wantLimit(t, a, 0)
	fill(t, filepath.Join(dir, "a", "all"), 8*mib)
}

func TestACopyHasALimitOfItsOwn(t *testing.T) {
	dir, ctx := filesystem(t), t.Context()
	run(t, "btrfs", "quota", "enable", dir)
	top := opened(t, dir)
	must(t, btrfs.Create(ctx, top, "a"))
	a := opened(t, dir, "a")
	must(t, btrfs.SetLimit(ctx, a, 16*mib))
	fill(t, filepath.Join(dir, "a", "data"), 8*mib)
	must(t, btrfs.Snapshot(ctx, a, top, "b", false))
	b := opened(t, dir, "b")
	wantLimit(t, b, 16*mib) // the source's
	must(t, btrfs.SetLimit(ctx, b, 32*mib))
	wantLimit(t, b, 32*mib)
	wantLimit(t, a, 16*mib)
	if u, err := btrfs.UsageOf(b); u.UsedBytes < 8*mib || u.OwnBytes > mib || err != nil {
		t.Errorf("usage of the copy %+v, %v", u, err)
	}
}

func TestWithoutQuotasThereIsNoLimit(t *testing.T) {
	dir, ctx := filesystem(t), t.Context()
	top := opened(t, dir)
	if q, err := btrfs.QuotasOf(top); q != (btrfs.Quotas{}) || err != nil {
		t.Errorf("quotas %+v, %v", q, err)
	}
	must(t, btrfs.Create(ctx, top, "a"))
	wantKind(t, btrfs.SetLimit(ctx, opened(t, dir, "a"), mib), fault.Precondition)
	wantKind(t, btrfs.SetLimit(ctx, opened(t, dir, "a"), -1), fault.Invalid)
	if u, err := btrfs.UsageOf(opened(t, dir, "a")); u != (btrfs.Usage{}) || err != nil {
		t.Errorf("usage %+v, %v", u, err)
	}
}

func wantLimit(t *testing.T, f *os.File, bytes int64) {
	t.Helper()
	if u, err := btrfs.UsageOf(f); u.LimitBytes != bytes || err != nil {
		t.Errorf("%s: usage %+v, %v; want a limit of %d bytes", f.Name(), u, err, bytes)
	}
}

// fill writes a file until it has that many bytes or the file system refuses, and returns how many it took.
func fill(t *testing.T, path string, bytes int64) int64 {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	chunk, done := make([]byte, 256<<10), int64(0)
	for done < bytes {
		n, err := f.Write(chunk)
		done += int64(n)
		if errors.Is(err, unix.EDQUOT) {
			break
		}
		must(t, err)
	}
	if err := f.Sync(); err != nil && !errors.Is(err, unix.EDQUOT) {
		t.Fatal(err)
	}
	return done
}
