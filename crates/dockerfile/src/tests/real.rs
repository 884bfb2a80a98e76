//! Dockerfiles as people write them.

use super::*;

const GO: &str = r#"# syntax=docker/dockerfile:1
ARG GO_VERSION=1.24
FROM --platform=$BUILDPLATFORM golang:${GO_VERSION}-alpine AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
ARG SERVICE=gateway
COPY cmd/${SERVICE} ./cmd/${SERVICE}
COPY pkg/ ./pkg/
ARG TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -o /out/app ./cmd/${SERVICE}

FROM build AS test
COPY testdata ./testdata
RUN go test ./...

FROM gcr.io/distroless/static:nonroot
COPY --from=build --chown=nonroot /out/app /app
ENTRYPOINT ["/app"]
"#;

#[test]
fn go_with_a_test_stage() {
    let case = case().arg("SERVICE", "datastorage");
    let reading = case.read(GO);
    assert_eq!(show(&reading.sources), ["go.mod", "go.sum", "cmd/datastorage", "pkg"]);
    assert_eq!(reading.stages, ["build", "2"]);
    let bases: Vec<&str> = reading.bases.iter().map(|base| base.name.as_str()).collect();
    let frontend = "docker/dockerfile:1";
    assert_eq!(bases, [frontend, "golang:1.24-alpine", "gcr.io/distroless/static:nonroot"]);
    assert_eq!(reading.args["SERVICE"], "datastorage");
    assert_eq!(reading.args["GO_VERSION"], "1.24");
    assert!(!reading.args.contains_key("BUILDPLATFORM"), "not declared");
    assert_eq!(case.target("test").sources(GO).last().unwrap(), "testdata");
}

#[test]
fn rust_with_cargo_chef() {
    let text = r"
FROM rust:1.95 AS chef
RUN cargo install cargo-chef
WORKDIR /app
FROM chef AS planner
COPY . .
RUN cargo chef prepare --recipe-path recipe.json
FROM chef AS builder
COPY --from=planner /app/recipe.json recipe.json
RUN cargo chef cook --release --recipe-path recipe.json
COPY . .
RUN cargo build --release
FROM debian:bookworm-slim AS runtime
COPY --from=builder /app/target/release/app /usr/local/bin
";
    let reading = case().read(text);
    assert_eq!(show(&reading.sources), ["", ""]);
    assert_eq!(reading.whole_context().unwrap().1, 6);
    assert_eq!(reading.stages, ["chef", "planner", "builder", "runtime"]);
    assert_eq!(case().target("chef").sources(text), [""; 0]);
}

#[test]
fn node_with_bind_mounts() {
    let text = r#"
FROM node:22-slim AS deps
WORKDIR /app
RUN --mount=type=bind,source=package.json,target=package.json \
    --mount=type=bind,source=package-lock.json,target=package-lock.json \
    --mount=type=cache,target=/root/.npm,sharing=locked \
    --mount=type=secret,id=npmrc,target=/root/.npmrc \
    npm ci --omit=dev
FROM node:22-slim
ENV NODE_ENV=production
COPY --from=deps --link /app/node_modules ./node_modules
COPY --chown=node:node --exclude=**/*.test.js src ./src
USER node
CMD ["node", "src/index.js"]
"#;
    let reading = case().read(text);
    assert_eq!(show(&reading.sources), ["bind:package.json", "bind:package-lock.json", "src"]);
    assert_eq!(reading.secrets, ["npmrc"]);
    assert_eq!(reading.bases.len(), 1);
}

#[test]
fn python_with_heredocs_and_wheels() {
    let text = r#"
FROM python:3.13-slim AS base
ENV VENV=/venv PYTHONUNBUFFERED=1
FROM base AS wheels
COPY requirements*.txt constraints.txt /tmp/
RUN <<EOF
set -e
python -m venv $VENV
COPY . /not/an/instruction
EOF
FROM base
COPY --from=wheels $VENV $VENV
COPY <<-'EOF' app/ /srv/
	#!/bin/sh
	exec python -m app
	EOF
COPY ["config files/app.toml", "/etc/app/"]
ADD https://example.com/ca.pem /etc/ssl/
"#;
    let expected = ["requirements*.txt", "constraints.txt", "app", "config files/app.toml"];
    assert_eq!(case().sources(text), expected);
}

#[test]
fn a_service_built_from_a_shared_workspace() {
    let text = r"
FROM docker.io/library/rust:1.95-slim AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY --parents images/*/Cargo.toml images/gateway/src ./
RUN --mount=type=cache,id=registry,target=/usr/local/cargo/registry,sharing=locked \
    # the program is copied out: the mount is not in the layer
    cargo build --profile image \
 && cp target/image/gateway /gateway

FROM docker.io/library/debian:bookworm-slim
COPY --from=build /gateway /usr/local/bin/
";
    let parents = ["/./images/*/Cargo.toml", "/./images/gateway/src"];
    assert_eq!(case().sources(text), [&["Cargo.toml", "Cargo.lock"], &parents[..]].concat());
}

#[test]
fn a_base_with_triggers_is_known_only_if_told() {
    let text = "FROM node:onbuild\nEXPOSE 80\n";
    assert_eq!(case().sources(text), [""; 0]);
    let triggers = ["COPY package.json /usr/src/app/", "RUN npm install", "COPY . /usr/src/app"];
    let known = case().base("node:onbuild", &[], &triggers);
    assert_eq!(known.sources(text), ["package.json", ""]);
}
