package driver

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestASentenceOnHealthIsBounded(t *testing.T) {
	if got := bounded("all is said"); got != "all is said" {
		t.Errorf("a short sentence became %q", got)
	}
	for shift := range 4 { // a character of several bytes stands at the cut
		got := bounded(strings.Repeat("x", shift) + strings.Repeat("\u20ac", maxHealthMessage))
		if len(got) > maxHealthMessage || !utf8.ValidString(got) || !strings.HasSuffix(got, "...") {
			t.Errorf("shifted by %d: %d bytes, valid %t", shift, len(got), utf8.ValidString(got))
		}
	}
}
