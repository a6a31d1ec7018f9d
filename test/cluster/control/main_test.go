package control_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/cluster/control"
)

// folderVariable makes this test binary a process that runs a control plane in the folder that it names, until it is killed.
const folderVariable = "TEST_CONTROL_FOLDER"

// plane is the API server of all tests of this package.
var plane *control.Plane

func TestMain(m *testing.M) {
	if dir := os.Getenv(folderVariable); dir != "" {
		if _, err := control.Start(context.Background(), control.Config{Dir: dir}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("ready")
		select {}
	}
	os.Exit(control.Main(m, func(p *control.Plane) { plane = p }))
}
