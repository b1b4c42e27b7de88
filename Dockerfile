# One static binary for every service; the command picks which one runs.
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=1.2.3 .
# Go cross-compiles, so the build runs on the builder's own platform, never emulated.
FROM --platform=$BUILDPLATFORM golang:1.26.4-alpine@sha256:7a3e50096189ad57c9f9f865e7e4aa8585ed1585248513dc5cda498e2f41812c AS build
WORKDIR /src
RUN --mount=type=bind,source=go.mod,target=go.mod \
    --mount=type=bind,source=go.sum,target=go.sum \
    --mount=type=cache,target=/go/pkg/mod \
    go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /eventstream .

# Nothing but the binary, its licences and the certificates it trusts; health checks run
# `eventstream healthcheck <url>`, since there is no shell.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /eventstream /eventstream
COPY LICENSE NOTICE THIRD_PARTY_NOTICES /
USER 65532:65532
EXPOSE 8001 8002 8003
ENTRYPOINT ["/eventstream"]
