package filesystem

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
)

// setting is one choice that mkfs is told. Flags that take a list ("-m reflink=1,bigtime=1") have a
// setting for each key, so that the user's can take the place of ours: the tools refuse a key that comes
// twice, or forget the first list.
type setting struct {
	flag string
	key  string // "" where the flag has a single value
	// value is the key's, or the flag's; of a feature it is "^" where the feature is switched off, else "".
	value string
}

// style says how a flag's settings are written.
type style int

const (
	single   style = iota // -b 4096
	keyed                 // -m reflink=1,bigtime=1
	features              // -O project,^quota
)

// rule is one entry of an allow-list.
type rule struct {
	flag  string
	style style
	key   string
	// ok tells whether a value is allowed, shown writes them for a person.
	ok    func(string) bool
	shown string
}

// choice allows the given values.
func choice(flag string, s style, key string, values ...string) rule {
	return rule{flag, s, key, func(v string) bool { return slices.Contains(values, v) }, strings.Join(values, "|")}
}

// number allows a decimal number between two, both included.
func number(flag string, s style, key string, least, most int64) rule {
	return rule{flag, s, key, func(v string) bool {
		n, ok := decimal(v)
		return ok && n >= least && n <= most
	}, fmt.Sprintf("%d..%d", least, most)}
}

// amount allows a size between two, in bytes or with one of the suffixes k, m, g (units of 1024).
func amount(flag string, s style, key string, least, most int64) rule {
	return rule{flag, s, key, func(v string) bool {
		n, ok := byteSize(v)
		return ok && n >= least && n <= most
	}, fmt.Sprintf("%s..%s", writeSize(least), writeSize(most))}
}

// feature allows a feature to be switched on or off.
func feature(flag, name string) rule {
	return rule{flag, features, name, func(v string) bool { return v == "" || v == "^" }, "[^]" + name}
}

// String writes what the rule allows.
func (r rule) String() string {
	words := r.flag + " " + r.shown
	if r.style == keyed {
		words = r.flag + " " + r.key + "=" + r.shown
	}
	return strings.TrimSpace(words)
}

// decimal reads a number without sign, leading zeroes or anything else that two parsers may read apart.
func decimal(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 0 && strconv.FormatInt(n, 10) == s
}

// byteSize reads "65536" or "64k".
func byteSize(s string) (int64, bool) {
	unit := int64(1)
	if i := len(s) - 1; i > 0 {
		switch s[i] {
		case 'k':
			unit = kib
		case 'm':
			unit = mib
		case 'g':
			unit = gib
		}
		if unit > 1 {
			s = s[:i]
		}
	}
	n, ok := decimal(s)
	if !ok || n > (1<<62)/unit {
		return 0, false
	}
	return n * unit, true
}

func writeSize(n int64) string {
	switch {
	case n >= gib && n%gib == 0:
		return strconv.FormatInt(n/gib, 10) + "g"
	case n >= mib && n%mib == 0:
		return strconv.FormatInt(n/mib, 10) + "m"
	case n >= kib && n%kib == 0:
		return strconv.FormatInt(n/kib, 10) + "k"
	}
	return strconv.FormatInt(n, 10)
}

// split takes a flag's value apart, by the style of the flag's rules.
func split(flag, value string, s style) []setting {
	if s == single {
		return []setting{{flag: flag, value: value}}
	}
	var out []setting
	for item := range strings.SplitSeq(value, ",") {
		if s == features {
			name, off := strings.CutPrefix(item, "^")
			v := ""
			if off {
				v = "^"
			}
			out = append(out, setting{flag, name, v})
			continue
		}
		key, v, _ := strings.Cut(item, "=")
		out = append(out, setting{flag, key, v})
	}
	return out
}

// overlay puts one list of settings over another: what the second sets replaces the first's.
func overlay(base, over []setting) []setting {
	out := slices.Clone(base)
	for _, o := range over {
		at := slices.IndexFunc(out, func(s setting) bool { return s.flag == o.flag && s.key == o.key })
		if at < 0 {
			out = append(out, o)
		} else {
			out[at] = o
		}
	}
	return out
}

// value returns what a list of settings has for a flag and key, or "".
func value(list []setting, flag, key string) string {
	for _, s := range list {
		if s.flag == flag && s.key == key {
			return s.value
		}
	}
	return ""
}

// arguments writes settings for the tool: each flag once, lists joined by commas.
func arguments(list []setting, styles map[string]style) []string {
	var out []string
	for i, s := range list {
		if slices.ContainsFunc(list[:i], func(e setting) bool { return e.flag == s.flag }) {
			continue
		}
		var items []string
		for _, e := range list[i:] {
			if e.flag == s.flag {
				items = append(items, e.item(styles[s.flag]))
			}
		}
		out = append(out, s.flag, strings.Join(items, ","))
	}
	return out
}

// item writes one setting of a flag.
func (s setting) item(as style) string {
	switch {
	case as == features:
		return s.value + s.key
	case as == keyed && s.value == "":
		return s.key
	case as == keyed:
		return s.key + "=" + s.value
	}
	return s.value
}

// refuse is the error for an option, and lists what the rules allow.
func refuse(what string, t Type, rules []rule, reason string, args ...any) error {
	allowed := make([]string, len(rules))
	for i, r := range rules {
		allowed[i] = r.String()
	}
	return fault.New(fault.Invalid, "%s for %s: %s; allowed are: %s", what, cmp.Or(string(t), "a directory"), fmt.Sprintf(reason, args...), strings.Join(allowed, "; "))
}
