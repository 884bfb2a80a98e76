# Short names for what people and CI run. `cargo xtask test` checks every recipe.

# What CI runs; installs what is missing
ci:
    cargo xtask test --bootstrap

# Everything CI runs, on a machine that is ready
test:
    cargo xtask test

# A suite from images to tests, e.g. `just e2e gateway --keep`
e2e suite="gateway" *args:
    cargo xtask e2e {{suite}} {{args}}

# Bring images up to date
images *names:
    cargo xtask images {{names}}

# What would be built, and why
plan *args:
    cargo xtask plan {{args}}

# The build contexts are within their budgets
check:
    cargo xtask context --check

# Registries, ports, pull policies, contexts and scripts are as they should be
lint *args:
    cargo xtask lint {{args}}

# What this machine lacks
doctor *args:
    cargo xtask doctor {{args}}

# Ratios against named rivals: git status, sha256sum, podman build; makespans
bench:
    cargo bench --package xtask
