package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/datastore-csi/datastore-csi/test/cluster/image"
)

type descriptor struct {
	MediaType, Digest string
	Size              int
	Annotations       map[string]string
}

// files reads a tar: content by name. Folders have names that end with a slash.
func files(t *testing.T, r io.Reader) (map[string][]byte, map[string]*tar.Header) {
	t.Helper()
	content, headers := map[string][]byte{}, map[string]*tar.Header{}
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return content, headers
		}
		if err != nil {
			t.Fatal(err)
		}
		if headers[h.Name] != nil {
			t.Errorf("%s is there twice", h.Name)
		}
		if content[h.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
		headers[h.Name] = h
	}
}

// blob gives what a descriptor points to, and holds its size and digest against it.
func blob(t *testing.T, layout map[string][]byte, d descriptor) []byte {
	t.Helper()
	content, there := layout["blobs/sha256/"+strings.TrimPrefix(d.Digest, "sha256:")]
	sum := sha256.Sum256(content)
	if !there || d.Size != len(content) || d.Digest != "sha256:"+hex.EncodeToString(sum[:]) {
		t.Fatalf("the descriptor %+v doesn't fit its blob of %d bytes", d, len(content))
	}
	return content
}

func parse(t *testing.T, content []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(content, into); err != nil {
		t.Fatalf("%v in %s", err, content)
	}
}

func TestAnImageHoldsItsFilesUnderItsNames(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("program", "machine code", 0o755)
	write("tree/etc/a.conf", "a = 1", 0o640)
	i := image.Image{
		Names:      []string{"registry.test/one:1", "registry.test/two:2"},
		Files:      map[string]string{"/bin/program": filepath.Join(dir, "program"), "/opt": filepath.Join(dir, "tree")},
		Links:      map[string]string{"/bin/alias": "program"},
		Entrypoint: []string{"/bin/program"}, Command: []string{"--help"}, User: "65532",
	}
	path := filepath.Join(dir, "image.tar")
	if err := i.Write(path); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	layout, _ := files(t, bytes.NewReader(written))

	var index struct{ Manifests []descriptor }
	parse(t, layout["index.json"], &index)
	var names []string
	for _, m := range index.Manifests {
		names = append(names, m.Annotations["io.containerd.image.name"])
	}
	if got, want := strings.Join(names, " "), "registry.test/one:1 registry.test/two:2"; got != want {
		t.Fatalf("names %q, want %q", got, want)
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	parse(t, blob(t, layout, index.Manifests[0]), &manifest)
	var config struct {
		Architecture, OS string
		Config           struct {
			Entrypoint, Cmd []string
			User            string
		}
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	parse(t, blob(t, layout, manifest.Config), &config)
	if config.Architecture != runtime.GOARCH || config.OS != "linux" || config.Config.User != "65532" ||
		config.Config.Entrypoint[0] != "/bin/program" || config.Config.Cmd[0] != "--help" {
		t.Errorf("configuration %+v doesn't say what was asked for", config)
	}

	zip, err := gzip.NewReader(bytes.NewReader(blob(t, layout, manifest.Layers[0])))
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(unpacked); config.RootFS.DiffIDs[0] != "sha256:"+hex.EncodeToString(sum[:]) {
		t.Errorf("the layer's digest is %s, which isn't that of its content", config.RootFS.DiffIDs[0])
	}
	content, headers := files(t, bytes.NewReader(unpacked))
	if string(content["bin/program"]) != "machine code" || headers["bin/program"].Mode != 0o755 {
		t.Errorf("/bin/program: %q, mode %o", content["bin/program"], headers["bin/program"].Mode)
	}
	if string(content["opt/etc/a.conf"]) != "a = 1" || headers["opt/etc/a.conf"].Mode != 0o640 {
		t.Errorf("/opt/etc/a.conf: %q, mode %o", content["opt/etc/a.conf"], headers["opt/etc/a.conf"].Mode)
	}
	if headers["bin/alias"].Linkname != "program" || headers["tmp/"].Mode != 0o1777 || headers["proc/"] == nil {
		t.Error("want the link /bin/alias, a /tmp for all and a mount point /proc")
	}

	if err := i.Write(path); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(path); err != nil || !bytes.Equal(again, written) {
		t.Errorf("the same files gave another image (%v)", err)
	}
}

func TestAnImageThatCannotBeMadeLeavesTheOldOne(t *testing.T) {
	for name, i := range map[string]image.Image{
		"a file that isn't there": {Names: []string{"a:1"}, Files: map[string]string{"/a": "/no/such/file"}},
		"a path that is relative": {Names: []string{"a:1"}, Files: map[string]string{"a": "/etc/passwd"}},
		"no name":                 {Files: map[string]string{"/a": "/etc/passwd"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image.tar")
			if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := i.Write(path); err == nil {
				t.Error("got no error")
			}
			if content, err := os.ReadFile(path); err != nil || string(content) != "old" {
				t.Errorf("the old image is %q (%v)", content, err)
			}
		})
	}
}
