package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Media types of the OCI image specification.
const (
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// Image describes an image for this machine's architecture.
type Image struct {
	// Names under which it is known, with registry and tag: "registry.k8s.io/pause:3.10.1". At least one.
	Names []string
	// Files of the image, by their absolute path there; the value is a file of this machine. Their modes are kept, they belong
	// to root. Folders above them are made. What is a folder here is taken with all beneath it.
	Files map[string]string
	// Links are symbolic links: target by absolute path.
	Links map[string]string
	// Entrypoint, Command, User as in the image specification.
	Entrypoint, Command []string
	User                string
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Write makes the image at path, which is replaced when the new one is whole. The same files give the same bytes.
func (i Image) Write(path string) error {
	if err := i.write(path); err != nil {
		return fmt.Errorf("write the image %s: %w", strings.Join(i.Names, ", "), err)
	}
	return nil
}

func (i Image) write(path string) (err error) {
	if len(i.Names) == 0 {
		return errors.New("it has no name")
	}
	layer, unpacked, err := i.layer()
	if err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": runtime.GOOS,
		"config": map[string]any{
			"Entrypoint": i.Entrypoint, "Cmd": i.Command, "User": i.User,
			"Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{unpacked}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": typeManifest,
		"config": describe(typeConfig, config), "layers": []descriptor{describe(typeLayer, layer)},
	})
	if err != nil {
		return err
	}
	var named []descriptor
	for _, name := range i.Names {
		d := describe(typeManifest, manifest)
		// What containerd takes as the whole name; the specification's own annotation holds the tag only.
		d.Annotations = map[string]string{"io.containerd.image.name": name}
		named = append(named, d)
	}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": named})
	if err != nil {
		return err
	}
	out, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	put := func(name string, content []byte) {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}))
		_, failed := w.Write(content)
		err = errors.Join(err, failed)
	}
	put("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	put("index.json", index)
	for _, blob := range [][]byte{manifest, config, layer} {
		put("blobs/sha256/"+strings.TrimPrefix(digest(blob), "sha256:"), blob)
	}
	if err := errors.Join(err, w.Close(), out.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func describe(mediaType string, content []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: digest(content), Size: len(content)}
}

// layer gives the compressed layer, and the digest of what it is uncompressed.
func (i Image) layer() (compressed []byte, unpacked string, err error) {
	var packed bytes.Buffer
	plain := sha256.New()
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, "", err
	}
	l := &layer{tar: tar.NewWriter(io.MultiWriter(zip, plain)), made: map[string]bool{}}
	// Mount points that a runtime needs, made here so that the root may be read-only.
	for _, folder := range []string{"/dev", "/etc", "/proc", "/run", "/sys"} {
		l.folder(folder, 0o755)
	}
	l.folder("/tmp", 0o1777)
	for _, path := range sorted(i.Files) {
		l.add(path, i.Files[path])
	}
	for _, path := range sorted(i.Links) {
		l.folder(filepath.Dir(path), 0o755)
		l.header(&tar.Header{Typeflag: tar.TypeSymlink, Name: path[1:], Linkname: i.Links[path], Mode: 0o777})
	}
	if err := errors.Join(l.err, l.tar.Close(), zip.Close()); err != nil {
		return nil, "", err
	}
	return packed.Bytes(), "sha256:" + hex.EncodeToString(plain.Sum(nil)), nil
}

// layer is a layer as it is written. The first error stays, and ends the writing.
type layer struct {
	tar  *tar.Writer
	made map[string]bool // folders
	err  error
}

func (l *layer) header(h *tar.Header) {
	if l.err == nil {
		l.err = l.tar.WriteHeader(h)
	}
}

// folder makes a folder and those above it.
func (l *layer) folder(path string, mode int64) {
	if path == "/" || l.made[path] {
		return
	}
	l.folder(filepath.Dir(path), 0o755)
	l.made[path] = true
	l.header(&tar.Header{Typeflag: tar.TypeDir, Name: path[1:] + "/", Mode: mode})
}

// add takes a file, or a folder with all beneath it.
func (l *layer) add(path, source string) {
	if !filepath.IsAbs(path) {
		l.err = errors.Join(l.err, fmt.Errorf("path %q: want an absolute one", path))
		return
	}
	info, err := os.Stat(source)
	if err != nil {
		l.err = errors.Join(l.err, err)
		return
	}
	if !info.IsDir() {
		l.file(path, source, info)
		return
	}
	l.folder(path, int64(info.Mode().Perm()))
	entries, err := os.ReadDir(source)
	l.err = errors.Join(l.err, err)
	for _, entry := range entries {
		l.add(filepath.Join(path, entry.Name()), filepath.Join(source, entry.Name()))
	}
}

func (l *layer) file(path, source string, info os.FileInfo) {
	l.folder(filepath.Dir(path), 0o755)
	l.header(&tar.Header{Typeflag: tar.TypeReg, Name: path[1:], Mode: int64(info.Mode().Perm()), Size: info.Size()})
	if l.err != nil {
		return
	}
	content, err := os.Open(source)
	if err != nil {
		l.err = err
		return
	}
	_, err = io.Copy(l.tar, content)
	l.err = errors.Join(err, content.Close())
}

func sorted(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
