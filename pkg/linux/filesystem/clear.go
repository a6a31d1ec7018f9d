package filesystem

import (
	"context"
	"io"
	"os"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/step"
)

// Clear writes zeroes over all that Blank reads of an open device or file, which is the caller's own and holds nothing that anybody
// wants: what an earlier owner of its space left there. It is durable when it returns, and ends with ctx.
func Clear(ctx context.Context, f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return fault.New(fault.Unavailable, "can't tell the size of %s (%d bytes): %w", f.Name(), size, err)
	}
	zeroes := make([]byte, blankEdge)
	return step.Do(ctx, "clear "+f.Name(), func() error {
		for _, g := range regions(size) {
			for done := int64(0); done < g.size; {
				if err := ctx.Err(); err != nil {
					return err
				}
				n, err := f.WriteAt(zeroes[:min(int64(len(zeroes)), g.size-done)], g.offset+done)
				if err != nil {
					return fault.New(fault.Unavailable, "can't write zeroes to %s at offset %d: %w", f.Name(), g.offset+done, err)
				}
				done += int64(n)
			}
		}
		if err := f.Sync(); err != nil {
			return fault.New(fault.Unavailable, "can't flush %s: %w", f.Name(), err)
		}
		return nil
	})
}
