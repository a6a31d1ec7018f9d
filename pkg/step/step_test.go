package step_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/step"
)

func TestDoTellsTheHookBeforeTheChange(t *testing.T) {
	var log []string
	ctx := step.WithHook(t.Context(), func(volume, what string) { log = append(log, volume+" "+what) })
	ctx = step.WithVolume(ctx, "pvc-1")
	want := errors.New("disk on fire")
	err := step.Do(ctx, "format", func() error { log = append(log, "changed"); return want })
	if !errors.Is(err, want) {
		t.Errorf("the change's error was lost: %v", err)
	}
	if !slices.Equal(log, []string{"pvc-1 format", "changed"}) {
		t.Errorf("got %q", log)
	}
}

func TestDoWithoutHookIsAPlainCall(t *testing.T) {
	n := 0
	if err := step.Do(step.WithHook(context.Background(), nil), "x", func() error { n++; return nil }); err != nil || n != 1 {
		t.Errorf("called %d times, %v", n, err)
	}
}
