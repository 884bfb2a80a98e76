//! Ignore rules, exactly as BuildKit applies them.
