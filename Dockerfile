# The image of airbyte-publish, for GitLab and every other CI that runs jobs in containers: the program, a shell, git,
# certificates, and a BuildKit that needs no daemon beside it and no root. "go run ./internal/selfimage/push" builds and
# pushes it; BuildKit and Docker build it as well.
#
# What it is made from is named here alone, so that both can be pinned to digests or come from a mirror.
ARG GO_IMAGE=golang:1.26.8-alpine
ARG BUILDKIT_IMAGE=moby/buildkit:v0.33.1-rootless

# The program, for each platform on the machine that builds: Go needs no emulator for that.
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS program
ARG TARGETOS
ARG TARGETARCH
# What a release adds, to say its version.
ARG LDFLAGS="-s -w"
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS="$TARGETOS" GOARCH="$TARGETARCH" \
    go build -trimpath -buildvcs=false -ldflags="$LDFLAGS" -o /airbyte-publish .

# BuildKit's image without root, which is Alpine with a shell, git, certificates, rootlesskit and newuidmap.
FROM ${BUILDKIT_IMAGE} AS buildkit

# That image less what is never used here, and with root allowed to have ids for the users of its containers. Nothing of
# it is run, so that this needs no emulator either.
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS system
COPY --from=buildkit / /system
COPY internal/selfimage/strip/main.go /strip.go
RUN CGO_ENABLED=0 go run /strip.go /system/usr/bin/buildkitd /system/usr/bin/buildkit-runc /system/usr/bin/rootlesskit
RUN cd /system/usr/bin && \
    rm -f buildctl buildctl-daemonless.sh buildkit-cni-* && \
    for emulator in buildkit-qemu-*; do \
      case "$emulator" in *-aarch64 | *-x86_64) ;; *) rm -f "$emulator" ;; esac; \
    done && \
    for ids in /system/etc/subuid /system/etc/subgid; do echo root:100000:65536 >>"$ids"; done && \
    mkdir -p /system/var/cache && mkdir -m 1777 /system/var/cache/airbyte-publish

FROM scratch
COPY --from=system /system /
COPY --from=program /airbyte-publish /usr/local/bin/
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    XDG_CACHE_HOME=/var/cache/airbyte-publish
# BuildKit's layers, of whatever user. In a volume they are no files of a container, on which the kernel stacks no others.
VOLUME /var/cache/airbyte-publish
# No USER: GitHub's actions must run as root, and GitLab's jobs write into a folder that belongs to root.
ENTRYPOINT ["airbyte-publish"]
