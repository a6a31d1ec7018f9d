package socket_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/pkg/fault"
	"github.com/datastore-csi/datastore-csi/pkg/linux/socket"
)

func TestPath(t *testing.T) {
	for endpoint, want := range map[string]string{
		"unix:///run/csi.sock": "/run/csi.sock", "unix:///a b/c": "/a b/c",
		"": "", "/run/csi.sock": "", "tcp://127.0.0.1:1": "", "unix://run/csi.sock": "", "unix:///run/../csi.sock": "",
		"unix:///" + strings.Repeat("x", 200): "", "unix://": "",
	} {
		got, err := socket.Path(endpoint)
		if got != want || (err == nil) != (want != "") || (err != nil && !fault.Is(err, fault.Invalid)) {
			t.Errorf("Path(%q) = %q, %v", endpoint, got, err)
		}
	}
}

func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := socket.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestListenIsForItsOwnerAndGoneAfterwards(t *testing.T) {
	path := filepath.Join(t.TempDir(), "csi.sock")
	l := listen(t, path)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "csi.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	killed, err := net.ListenUnix("unix", &net.UnixAddr{Name: path + ".new", Net: "unix"}) // a start that was killed
	if err != nil {
		t.Fatal(err)
	}
	killed.SetUnlinkOnClose(false)
	if err := killed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := listen(t, path).Close(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsInUseOrNoSocketIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	used, file, folder := filepath.Join(dir, "used"), filepath.Join(dir, "file"), filepath.Join(dir, "folder")
	l := listen(t, used)
	defer l.Close()
	if err := os.WriteFile(file, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{used: "another process listens", file: "file of mode", folder: "directory"} {
		_, err := socket.Listen(t.Context(), path)
		if !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "data" {
		t.Errorf("the file was changed: %q, %v", data, err)
	}
	if conn, err := net.Dial("unix", used); err != nil {
		t.Errorf("the listener was disturbed: %v", err)
	} else if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

func TestCloseLeavesASuccessorAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "csi.sock")
	first := listen(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second := listen(t, path)
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the successor's socket is gone: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}
