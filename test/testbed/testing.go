package testbed

import "context"

// TB is the part of testing.TB that [New] needs.
type TB interface {
	Helper()
	Cleanup(func())
	Context() context.Context
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// New makes a machine for a test, and ends it and removes its disks when the test ends.
func New(t TB, config Config) *Machine {
	t.Helper()
	m, err := NewMachine(t.Context(), config)
	if err != nil {
		t.Fatalf("make a machine: %v", err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close machine %s: %v", m.Name(), err)
		}
	})
	return m
}
