package mount

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWhatIsBusyForAMomentOnlyIsTriedAgain(t *testing.T) {
	tries := 0
	err := untilFree(t.Context(), func() error {
		if tries++; tries < 3 {
			return unix.EBUSY
		}
		return nil
	})
	if err != nil || tries != 3 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestOtherErrorsAndAnEndedContextAreNotWaitedFor(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	for _, test := range []struct {
		ctx context.Context
		err error
	}{{t.Context(), unix.EINVAL}, {t.Context(), nil}, {ended, unix.EBUSY}} {
		tries := 0
		err := untilFree(test.ctx, func() error { tries++; return test.err })
		if !errors.Is(err, test.err) || tries != 1 {
			t.Errorf("%v: %d tries, %v", test.err, tries, err)
		}
	}
}
