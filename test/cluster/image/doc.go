// Package image writes container images as files that containerd imports, without a registry, an engine or a daemon: one layer, made
// of files of this machine, in the layout that the OCI image specification describes (v1.1, image-layout.md).
package image
