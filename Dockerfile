# The image of snapshotd: one static binary, no shell, not root. A test builds and runs it without a registry, with a
# stand-in for the base image: docs/development.md.
ARG BUILD_IMAGE=golang:1.26
ARG RUNTIME_IMAGE=scratch

FROM ${BUILD_IMAGE} AS build
ARG VERSION=
ARG COMMIT=
WORKDIR /src
COPY . .
RUN CGO_ENABLED=0 go build -trimpath \
      -ldflags "-s -w \
        -X github.com/snapshotd/snapshotd/internal/cli.version=${VERSION} \
        -X github.com/snapshotd/snapshotd/internal/cli.commit=${COMMIT}" \
      -o /out/bin/snapshotd ./cmd/snapshotd \
 && mkdir -p /out/var/lib /out/data

FROM ${RUNTIME_IMAGE}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/bin/snapshotd /usr/local/bin/snapshotd
# The spool and a directory of snapshots go here: mount a volume. What is above it stays root's.
COPY --from=build /out/var /var
COPY --from=build --chown=65532:65532 /out/data /var/lib/snapshotd
USER 65532:65532
EXPOSE 7379 7380
ENTRYPOINT ["/usr/local/bin/snapshotd"]
