package command

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRedact(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		secrets []string
		want    string
	}{
		"no secret":                    {"plain", nil, "plain"},
		"none found":                   {"plain", []string{"x"}, "plain"},
		"found twice":                  {"a KEY b KEY", []string{"KEY"}, "a [redacted] b [redacted]"},
		"next to itself":               {"KEYKEY", []string{"KEY"}, "[redacted]"},
		"overlapping itself":           {"ababa.", []string{"aba"}, "[redacted]."},
		"overlapping another":          {"-abcdef-", []string{"abcd", "cdef"}, "-[redacted]-"},
		"one inside another":           {"-abcdef-", []string{"cd", "abcdef"}, "-[redacted]-"},
		"the whole text":               {"KEY", []string{"KEY"}, "[redacted]"},
		"a secret that is a wider one": {"KE", []string{"KEY"}, "KE"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := redact(c.text, c.secrets); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func FuzzErrorText(f *testing.F) {
	f.Add("user admin password hunter2", "hunter2", "pass", 100)
	f.Add("ab\x00c\nabc", "abc", "a", 3)
	f.Add("\xff\xfe\u2028\u0085", "\xff", "", 2)
	f.Fuzz(func(t *testing.T, text, one, two string, limit int) {
		if limit < 0 || limit > 1<<16 || len(text) > 1<<16 {
			return
		}
		o := &output{limit: limit}
		if n, err := o.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
		if len(o.bytes()) > limit || o.truncated() != (len(text) > limit) {
			t.Errorf("kept %d of %d bytes, truncated %v", len(o.bytes()), len(text), o.truncated())
		}
		secrets := Cmd{Redact: []string{one, two}}.secrets()
		got := o.text(secrets)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(got) > 2*maxText {
			t.Errorf("not fit for a log: %q", got)
		}
		for _, s := range secrets {
			// The words that stand in a secret's place may themselves contain a short one.
			for part := range strings.SplitSeq(got, hidden) {
				if strings.Contains(part, s) && len(got) <= maxText {
					t.Errorf("%q shows %q", got, s)
				}
			}
		}
	})
}
