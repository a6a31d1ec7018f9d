package order_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/datastore-csi/datastore-csi/test/testbed/internal/order"
)

func TestOrderIsReadAsItWasWritten(t *testing.T) {
	folder := t.TempDir()
	want := order.Order{
		HostName: "a", MachineID: "b", Modules: []string{"c"}, Shares: []string{"/d e"}, Program: "/f",
		Argv: []string{"g", "", "h\ni"}, Env: []string{"J=k"}, Dir: "/l", HungAfter: time.Second,
	}
	if err := order.Write(folder, want); err != nil {
		t.Fatal(err)
	}
	if got, err := order.Read(folder); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestReportIsParsedAsItWasMade(t *testing.T) {
	code := 255
	for _, want := range []order.Report{{Up: true}, {Exit: &code}, {Failed: "for a reason"}} {
		if got, err := order.ParseReport(want.String()); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q gave %+v, %v", want, got, err)
		}
	}
	if got := (order.Report{Failed: "two\nlines"}).String(); got != "failed two lines" {
		t.Errorf("a reason with two lines goes over the line as %q", got)
	}
}

func TestReportThatIsCutOffIsAnError(t *testing.T) {
	for _, line := range []string{"", "e", "exit", "exit x", "exit -1", "exit 256", "u"} {
		if got, err := order.ParseReport(line); err == nil {
			t.Errorf("%q gave %+v", line, got)
		}
	}
}

func FuzzParseReport(f *testing.F) {
	for _, seed := range []string{"up", "exit 3", "failed why", "exit 999999999999999999999", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		report, err := order.ParseReport(line)
		if err != nil {
			return
		}
		again, err := order.ParseReport(report.String())
		if err != nil || again.Up != report.Up || (again.Exit == nil) != (report.Exit == nil) {
			t.Errorf("%q gave %+v, which gave %+v, %v", line, report, again, err)
		}
	})
}
