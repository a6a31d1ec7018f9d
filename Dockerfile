# The driver's two images, for each architecture that Go and Debian share:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --target node .
#   docker buildx build --platform linux/amd64,linux/arm64 --target controller .
#
# `make image` builds them without a registry: it gives both bases, and a base of Debian that holds the packages already.
ARG BASE=docker.io/library/debian:bookworm-slim
ARG GO=docker.io/library/golang:1.26-bookworm

FROM --platform=$BUILDPLATFORM ${GO} AS build
ARG TARGETOS TARGETARCH VERSION=unknown
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY pkg pkg
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -buildvcs=false -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/datastore-csi ./cmd/datastore-csi

# The controller writes records and changes no machine: a static binary, no privilege, a root that may be read-only.
FROM scratch AS controller
COPY --from=build /out/datastore-csi /datastore-csi
USER 65532:65532
ENTRYPOINT ["/datastore-csi"]

# The node carves, makes file systems, mounts. Its packages are those of the tools that pkg/linux runs, and no others:
#   btrfs-progs              btrfs, mkfs.btrfs
#   e2fsprogs                mke2fs, e2fsck, resize2fs, tune2fs
#   lvm2                     lvm
#   thin-provisioning-tools  thin_check and thin_repair, which lvm runs
#   util-linux               blkid
#   xfsprogs                 mkfs.xfs, xfs_repair
FROM ${BASE} AS node
ARG PACKAGES="btrfs-progs e2fsprogs lvm2 thin-provisioning-tools util-linux xfsprogs"
# What only xfs_scrub needs, which is not run: a third of the packages' size.
ARG SPARED="/usr/lib/python3* /usr/share/python3* /usr/lib/*-linux-gnu/libicu*"
RUN dpkg --status $PACKAGES >/dev/null 2>&1 || { \
        apt-get update && \
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $PACKAGES && \
        rm -rf /var/cache/apt /var/lib/apt/lists /var/log/* $SPARED; }
COPY --from=build /out/datastore-csi /datastore-csi
ENTRYPOINT ["/datastore-csi"]
