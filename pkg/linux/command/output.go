package command

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"unicode"
)

const (
	// maxText is how many bytes of a tool's standard error an Error shows.
	maxText = 2048
	// hidden stands where a secret stood.
	hidden = "[redacted]"
	// minLine is the least length of a line of Stdin that is kept out of errors: shorter ones are
	// answers ("y"), and taking them out would make errors unreadable.
	minLine = 4
)

// output keeps the beginning of a stream and drops the rest. Writes and reads may come at once, since
// Run can leave before the child ends.
type output struct {
	limit int

	mu  sync.Mutex
	buf bytes.Buffer
	cut bool
}

// Write takes all of b, so that the tool is never blocked.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if room := o.limit - o.buf.Len(); room < len(b) {
		o.cut = true
		o.buf.Write(b[:room])
	} else {
		o.buf.Write(b)
	}
	return len(b), nil
}

func (o *output) bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.buf.Bytes())
}

func (o *output) truncated() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.cut
}

// text is the stream as an error may show it: without secrets, without control characters, and its
// middle left out where it is long.
func (o *output) text(secrets []string) string {
	raw := o.bytes()
	if o.truncated() && len(secrets) > 0 {
		// The cut may have gone through a secret, whose beginning would not be recognised.
		longest := len(slices.MaxFunc(secrets, func(a, b string) int { return len(a) - len(b) }))
		raw = raw[:max(0, len(raw)-longest+1)]
	}
	// A second time behind clean: a control character inside a secret's copy would have hidden it.
	s := strings.ToValidUTF8(redact(clean(redact(string(raw), secrets)), secrets), hidden)
	if len(s) <= maxText {
		return s
	}
	return clean(s[:maxText/2]) + " ... " + clean(s[len(s)-maxText/2:])
}

// secrets are the strings that no error of the run may show.
func (c Cmd) secrets() []string {
	all := slices.Clone(c.Redact)
	for line := range bytes.Lines(c.Stdin) {
		if line = bytes.TrimSpace(line); len(line) >= minLine {
			all = append(all, string(line))
		}
	}
	if s := string(c.Stdin); len(s) >= minLine {
		all = append(all, s)
	}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

// redact replaces every occurrence of a secret, overlapping ones included: bytes are marked first and
// replaced in one go, so that taking out one secret never leaves half of another.
func redact(s string, secrets []string) string {
	var mark []bool
	for _, secret := range secrets {
		for from := 0; ; from++ {
			at := strings.Index(s[from:], secret)
			if at < 0 {
				break
			}
			if mark == nil {
				mark = make([]bool, len(s))
			}
			from += at
			for i := range len(secret) {
				mark[from+i] = true
			}
		}
	}
	if mark == nil {
		return s
	}
	var b bytes.Buffer
	for i := range len(s) {
		switch {
		case !mark[i]:
			b.WriteByte(s[i])
		case i == 0 || !mark[i-1]:
			b.WriteString(hidden)
		}
	}
	return b.String()
}

// clean makes text of foreign origin fit for a log line: valid UTF-8, no control characters, and no
// run of spaces.
func clean(s string) string {
	var b bytes.Buffer
	space := true
	for _, r := range s {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			if !space {
				b.WriteByte(' ')
			}
			space = true
			continue
		}
		space = false
		b.WriteRune(r)
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte(" ")))
}
