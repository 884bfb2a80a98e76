# Short names for what people and CI run. `cargo xtask test` checks every recipe.

# What CI runs; installs what is missing
ci:
    cargo xtask test --bootstrap

# Everything CI runs, on a machine that is ready
test:
    cargo xtask test

# A suite from images to tests, e.g. `just e2e gateway --keep`
e2e suite="gateway" *args:
    cargo xtask e2e {{quote(suite)}} {{args}}

# Bring images up to date
images *names:
    cargo xtask images {{names}}

# What would be built, and why
plan *args:
    cargo xtask plan {{args}}

# All images that suites need, built and written to one file
prebuild file="images.tar":
    cargo xtask images --prebuild --bundle {{quote(file)}}

# What a suite needs, loaded from such a file
from-bundle file="images.tar" suite="gateway":
    cargo xtask images --from-bundle {{quote(file)}} --suite {{quote(suite)}}

# What a change touches, as lines for a workflow
affected since="origin/main":
    cargo xtask plan --since {{quote(since)}} --format github

# All suites, as lines for a workflow
everything:
    cargo xtask plan --format github

# The build contexts are within their budgets
check:
    cargo xtask context --check

# Registries, ports, pull policies, contexts and scripts are as they should be
lint *args:
    cargo xtask lint {{args}}

# What this machine lacks
doctor *args:
    cargo xtask doctor {{args}}

# Ratios against named rivals: git status, sha256sum, podman build; makespans, on paper and under a real limit
bench:
    cargo bench --package xtask --bench context --bench schedule --bench memory

# Random inputs to one target for so many minutes, e.g. `just fuzz dockerfile 15`
fuzz target="dockerfile" minutes="15":
    xtask/fuzz {{quote(target)}} {{quote(minutes)}}

# A static program and its SBOM, in `target/release-files`
release target="x86_64-unknown-linux-musl":
    xtask/release build {{quote(target)}}

# The SHA-256 of what a release consists of
checksums folder="target/release-files":
    xtask/release checksums {{quote(folder)}}

# A release of those files
publish folder="target/release-files" tag="v0.1.0":
    xtask/release publish {{quote(folder)}} {{quote(tag)}}

# The gateway suite as a graph against the same steps in phases; a quarter of an hour
bench-e2e:
    cargo bench --package xtask --bench e2e

# The images each of a clone's last 200 commits would rebuild, by its `xtask.toml`
replay clone="../kubernaut" config="xtask/benches/replay.toml":
    cargo bench --package xtask --bench replay -- {{quote(clone)}} {{quote(config)}}
