package measure

import "testing"

func TestMemoryIsGivenBackOnceAfterWorkHasEnded(t *testing.T) {
	var r Rest
	for n, row := range []struct{ work, want bool }{
		{false, true}, // what starting took
		{false, false},
		{true, false},
		{true, false},
		{false, true},
		{false, false},
	} {
		if row.work {
			r.Note()
		}
		if got := r.due(); got != row.want {
			t.Errorf("at %d: got %t, want %t", n, got, row.want)
		}
	}
}
