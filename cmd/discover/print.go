package discover

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/datastore-csi/datastore-csi/cmd/parts"
	"github.com/datastore-csi/datastore-csi/pkg/api/v1alpha1"
)

// write prints what was found. Only one type's documents are printed where a type is given.
func write(out io.Writer, format string, only v1alpha1.DatastoreType, all []Found) error {
	switch format {
	case parts.JSON:
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		if all == nil {
			all = []Found{}
		}
		return e.Encode(all)
	case YAML:
		return documents(out, only, all)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	lines := []string{"KIND\tPATH\tDEVICE\tSIZE\tFREE\tHOLDS\tCAN BECOME\tNOTE"}
	for _, f := range all {
		can, note := "-", strings.Join(slices.Concat(f.Why, f.Notes), "; ")
		if len(f.Types) > 0 {
			can = join(f.Types)
		}
		free := "-"
		if f.Free > 0 {
			free = human(f.Free)
		}
		holds := f.Holds
		if holds == "" {
			holds = "nothing"
		}
		lines = append(lines, strings.Join([]string{string(f.Kind), f.Path, f.Device, human(f.Bytes), free, holds, can, note}, "\t"))
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return w.Flush()
}

func join(types []v1alpha1.DatastoreType) string {
	words := make([]string, len(types))
	for i, t := range types {
		words[i] = string(t)
	}
	return strings.Join(words, ", ")
}

// document is a Datastore without what only the driver writes.
type document struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec map[string]any `json:"spec"`
}

// documents prints one for each thing that can become a datastore, and says in comments why others can't.
func documents(out io.Writer, only v1alpha1.DatastoreType, all []Found) error {
	var b strings.Builder
	taken := map[string]bool{}
	for _, f := range all {
		line := strings.Join(strings.Fields(fmt.Sprintf("%s %s, %s %s %s", f.Kind, f.Device, human(f.Bytes), f.Model, f.Serial)), " ")
		if len(f.Types) == 0 {
			comment(&b, line+": "+strings.Join(f.Why, "; "))
			continue
		}
		b.WriteString("---\n")
		comment(&b, line)
		for _, n := range f.Notes {
			comment(&b, n)
		}
		t := f.Types[0]
		if only != "" {
			t = only
		} else if len(f.Types) > 1 {
			comment(&b, "it could as well be of type "+join(f.Types[1:])+": see --type")
		}
		text, err := f.document(t, taken)
		if err != nil {
			return err
		}
		b.Write(text)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// document is the thing's as a datastore of a type, under a name that none before has.
func (f Found) document(t v1alpha1.DatastoreType, taken map[string]bool) ([]byte, error) {
	d := document{TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: "Datastore"}}
	d.Metadata.Name = f.Name
	for n := 2; taken[d.Metadata.Name]; n++ {
		d.Metadata.Name = fmt.Sprintf("%s-%d", f.Name[:min(len(f.Name), 58)], n)
	}
	taken[d.Metadata.Name] = true
	text, err := json.Marshal(f.spec(t))
	if err != nil {
		return nil, err
	}
	var whole map[string]any
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, err
	}
	d.Spec = map[string]any{"type": whole["type"], string(t): sparse(whole[string(t)])}
	return yaml.Marshal(d)
}

// sparse leaves out what says nothing.
func sparse(v any) any {
	fields, ok := v.(map[string]any)
	if !ok {
		return v
	}
	for key, value := range fields {
		value = sparse(value)
		if empty, ok := value.(map[string]any); ok && len(empty) == 0 {
			delete(fields, key)
			continue
		}
		fields[key] = value
	}
	return fields
}

// comment writes a line that no content can break out of.
func comment(b *strings.Builder, text string) {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	b.WriteString("# " + clean + "\n")
}

// human writes bytes to one digit behind the point.
func human(n int64) string {
	const step = 1024
	units := []string{"B", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"}
	value, unit := float64(n), 0
	for value >= step && unit < len(units)-1 {
		value /= step
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%dB", n)
	}
	return fmt.Sprintf("%.1f%s", value, units[unit])
}
