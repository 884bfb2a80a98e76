//! What changes a key and what does not, by name: each line of the two tables is one change to a
//! real folder, and the key is taken before and after it the way every command takes it.
//!
//! The key afterwards is taken twice, with the stat index of before and without any: an index that
//! answers wrongly shows here too.
#![expect(clippy::unwrap_used, reason = "all of this is a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dockerfile::BaseConfig;
use xtask::config::{Exclude, Inputs};
use xtask::context::{self, Bases, Context, Key, Spec};
use xtask::private::PrivatePath;

const DOCKERFILE: &str = r"# syntax=docker/dockerfile:1
ARG VERSION=1
FROM debian:12 AS build
ARG VERSION
ARG TAGS=none
ARG COMMIT
WORKDIR /src
COPY src/ /src/
COPY tool.sh link assets* /bin/
# The token is needed for the private registry.
RUN --mount=type=secret,id=token --mount=type=bind,source=conf,target=/conf make
COPY <<END /etc/motd
hello
END

FROM debian:12 AS debug
COPY debug/ /debug/

FROM alpine:3 AS release
COPY --from=build /src /app
LABEL revision=$COMMIT
";

const IGNORE: &str = "# what builds leave\nlogs\n**/*.tmp\n!src/keep.tmp\n";

/// A file's path and content.
type Text = (&'static str, &'static str);

/// A folder with a context, and what is asked of it.
struct Bench {
    folder: tempfile::TempDir,
    spec: Spec,
    /// What the engine holds of the bases.
    held: BTreeMap<String, String>,
    /// What it knows of them.
    known: Bases,
}

impl Bench {
    fn at(folder: tempfile::TempDir, files: &[(&str, &str)]) -> Self {
        let root = folder.path().join("context");
        fs_err::create_dir_all(&root).unwrap();
        let spec = Spec {
            name: "api".into(),
            dockerfile: Some(root.join("Dockerfile")),
            root,
            target: None,
            platform: None,
            args: map(&[("TAGS", "e2e"), ("COMMIT", "c0ffee"), ("UNDECLARED", "1")]),
            volatile_args: vec!["COMMIT".into()],
            secrets: vec!["token".into()],
            inputs: Inputs::Dockerfile,
            exclude: Exclude { defaults: true, ..Exclude::default() },
        };
        let held = map(&[("debian:12", "d".repeat(64).as_str()), ("alpine:3", "a")]);
        let bench = Self { folder, spec, held, known: Bases::new() };
        for (path, text) in files {
            bench.write(path, text);
        }
        bench
    }

    /// What the Dockerfile above is about.
    fn service() -> Self {
        Self::service_in(tempfile::tempdir().unwrap(), |files| files)
    }

    fn service_in(folder: tempfile::TempDir, order: fn(Vec<Text>) -> Vec<Text>) -> Self {
        let files = order(vec![
            ("Dockerfile", DOCKERFILE),
            (".dockerignore", IGNORE),
            ("src/main.c", "int main;"),
            ("src/lib/a.c", "a"),
            ("src/lib/b.c", "b"),
            ("src/lib/x.tmp", "left over"),
            ("src/keep.tmp", "kept"),
            ("src/vendor/v.c", "v"),
            ("src/target/t.o", "t"),
            ("conf/settings", "s"),
            ("assets-1/logo", "l"),
            ("tool.sh", "#!/bin/sh"),
            ("debug/gdb", "g"),
            ("logs/today", "quiet"),
            ("README", "words"),
        ]);
        let bench = Self::at(folder, &files);
        bench.chmod("tool.sh", 0o755);
        symlink("tool.sh", bench.path("link")).unwrap();
        fs_err::create_dir(bench.path("src/empty")).unwrap();
        bench
    }

    /// The same in a git working tree, with a file that git tracks where machines put theirs.
    fn in_git() -> Self {
        let bench = Self::service();
        bench.write("src/vendor/tracked.c", "v");
        bench.write(".gitignore", "vendor/\ntarget/\n");
        let git = |args: &[&str]| {
            let name = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
            let git = xtask::process::Tool::new("git").arg("-C").arg(bench.path(""));
            git.args(name).args(args.iter().copied()).run().unwrap();
        };
        git(&["init", "--quiet"]);
        git(&["add", "."]);
        git(&["add", "--force", "src/vendor/tracked.c"]);
        git(&["commit", "--quiet", "--message", "all"]);
        bench
    }

    /// A Cargo workspace of three, of which the image takes `api` and with it `log`.
    fn cargo() -> Self {
        let root = "[workspace]\nmembers = ['api', 'job', 'log']\n[workspace.dependencies]\n\
                    serde = '1'\nrand = '0.9'\n";
        let mut lock = String::from("version = 4\n");
        for (name, more) in [
            ("api", "dependencies = ['log', 'serde']"),
            ("job", "dependencies = ['rand']"),
            ("log", ""),
            ("rand", "source = 'registry+x'"),
            ("serde", "source = 'registry+x'"),
        ] {
            lock.extend(["[[package]]\nname = '", name, "'\nversion = '1.0.0'\n", more, "\n"]);
        }
        let api = "[package]\nname = 'api'\n[dependencies]\nlog.path = '../log'\n\
                   serde.workspace = true\n";
        let mut bench = Self::at(
            tempfile::tempdir().unwrap(),
            &[
                ("Dockerfile", "FROM debian:12\nCOPY . .\nRUN cargo build\n"),
                ("Cargo.toml", root),
                ("Cargo.lock", &lock),
                ("rust-toolchain.toml", "[toolchain]\nchannel = '1.95'\n"),
                (".cargo/config.toml", "[build]\n"),
                ("api/Cargo.toml", api),
                ("api/src/main.rs", "fn main() {}"),
                (
                    "job/Cargo.toml",
                    "[package]\nname = 'job'\n[dependencies]\nrand.workspace = true\n",
                ),
                ("job/src/main.rs", "fn main() {}"),
                ("log/Cargo.toml", "[package]\nname = 'log'\n"),
                ("log/src/lib.rs", ""),
                ("db/schema.sql", "create table t"),
                ("db/notes", "words"),
                ("README.md", "words"),
            ],
        );
        bench.takes_cargo("api", &["db/*.sql"]);
        bench
    }

    fn takes_cargo(&mut self, package: &str, also: &[&str]) {
        self.spec.inputs = Inputs::Cargo { package: package.into(), also: owned(also) };
    }

    /// A Go module with two programs, of which the image takes `cmd/api`.
    fn go() -> Self {
        let api =
            "package main\n\nimport (\n\t_ \"a.b/m/log\"\n\t_ \"a.b/lib\"\n)\n\nfunc main() {}\n";
        let log = "package log\n\nimport _ \"embed\"\n\n//go:embed templates/*.txt\nvar t string\n";
        let module = "module a.b/m\n\ngo 1.24\n\nreplace a.b/lib => ./lib\n";
        let mut bench = Self::at(
            tempfile::tempdir().unwrap(),
            &[
                ("Dockerfile", "FROM debian:12\nCOPY . .\nRUN go build ./cmd/api\n"),
                ("go.mod", module),
                ("go.sum", "x v1 h1:\n"),
                ("cmd/api/main.go", api),
                ("cmd/api/main_test.go", "package main\n"),
                ("cmd/job/main.go", "package main\n\nimport _ \"a.b/m/jobs\"\n\nfunc main() {}\n"),
                ("log/log.go", log),
                ("log/log_windows.go", "package log\n"),
                ("log/templates/a.txt", "a"),
                ("log/templates/a.md", "a"),
                ("jobs/jobs.go", "package jobs\n"),
                ("lib/go.mod", "module a.b/lib\n"),
                ("lib/lib.go", "package lib\n"),
                ("db/schema.sql", "create table t"),
                ("README.md", "words"),
            ],
        );
        bench.takes_go("./cmd/api", &["db/*.sql"]);
        bench
    }

    fn takes_go(&mut self, package: &str, also: &[&str]) {
        self.spec.inputs = Inputs::Go { package: package.into(), also: owned(also) };
    }

    /// On a base that brings a variable and a trigger along.
    fn on_known_base() -> Self {
        let mut bench = Self::service();
        bench.write("Dockerfile", "FROM debian:12\nCOPY $PART /part\n");
        bench.base_is(&[("PART", "src/lib")], &["COPY conf /conf"]);
        bench
    }

    fn base_is(&mut self, env: &[(&str, &str)], onbuild: &[&str]) {
        let env = map(env).into_iter().collect();
        self.known.insert("debian:12".into(), BaseConfig { env, onbuild: owned(onbuild) });
    }

    /// The service, narrowed by globs.
    fn globs() -> Self {
        let mut bench = Self::service();
        bench.write("Dockerfile", "FROM debian:12\nCOPY . .\n");
        bench.globs_are(&["src/**/*.c", "conf"]);
        bench
    }

    fn path(&self, path: &str) -> PathBuf {
        self.spec.root.join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs_err::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs_err::write(self.path(path), text).unwrap();
    }

    fn remove(&self, path: &str) {
        fs_err::remove_file(self.path(path)).unwrap();
    }

    fn chmod(&self, path: &str, mode: u32) {
        fs_err::set_permissions(self.path(path), PermissionsExt::from_mode(mode)).unwrap();
    }

    /// Replaces the one place where `old` stands in a file.
    fn turn(&self, path: &str, old: &str, new: &str) {
        let text = fs_err::read_to_string(self.path(path)).unwrap();
        assert_eq!(text.matches(old).count(), 1, "`{old}` in {path}");
        self.write(path, &text.replace(old, new));
    }

    fn dockerfile(&self, old: &str, new: &str) {
        self.turn("Dockerfile", old, new);
    }

    fn arg(&mut self, name: &str, value: &str) {
        self.spec.args.insert(name.into(), value.into());
    }

    fn globs_are(&mut self, globs: &[&str]) {
        self.spec.inputs = Inputs::Globs(owned(globs));
    }

    fn context(&self, indices: &PrivatePath) -> Context {
        let opened = context::open(std::slice::from_ref(&self.spec)).unwrap();
        context::gather(opened, Some(indices), || self.known.clone()).unwrap().remove(0)
    }

    fn key(&self) -> Key {
        let key = |indices: &str| {
            self.context(&PrivatePath::below(self.folder.path(), indices)).parts(&self.held).key()
        };
        let (kept, fresh) = (key("indices"), key(&format!("fresh-{:?}", SystemTime::now())));
        assert_eq!(kept, fresh, "the stat index changed the answer");
        kept
    }

    /// A digest of what is staged, seen from outside, and the key of it.
    fn staged(&self, to: &Path) -> Key {
        self.context(&PrivatePath::below(self.folder.path(), "indices"))
            .stage(to, &self.held)
            .unwrap()
            .parts
            .key()
    }
}

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|item| (*item).to_owned()).collect()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

type Change = (&'static str, fn() -> Bench, fn(&mut Bench));

/// Content and shape of the files that are sent.
const FILES: &[Change] = &[
    ("content", Bench::service, |b| b.write("src/main.c", "int main(){}")),
    ("content of the same length", Bench::service, |b| b.write("src/main.c", "int mein;")),
    ("content of the same length and mtime", Bench::service, same_size_and_mtime),
    ("content emptied", Bench::service, |b| b.write("src/main.c", "")),
    ("file for its owner alone", Bench::service, |b| b.chmod("src/main.c", 0o600)),
    ("folder for its owner alone", Bench::service, |b| b.chmod("src/lib", 0o700)),
    ("file for its owner alone, in git", Bench::in_git, |b| b.chmod("src/main.c", 0o600)),
    ("file that git tracks in vendor/", Bench::in_git, |b| b.write("src/vendor/tracked.c", "w")),
    ("exec bit set", Bench::service, |b| b.chmod("src/main.c", 0o744)),
    ("exec bit cleared", Bench::service, |b| b.chmod("tool.sh", 0o644)),
    ("file renamed", Bench::service, |b| moved(b, "src/main.c", "src/prog.c")),
    ("folder renamed", Bench::service, |b| moved(b, "src/lib", "src/liv")),
    ("two files swapped", Bench::service, |b| {
        moved(b, "src/lib/a.c", "src/lib/c.c");
        moved(b, "src/lib/b.c", "src/lib/a.c");
        moved(b, "src/lib/c.c", "src/lib/b.c");
    }),
    ("file moved to another folder", Bench::service, |b| moved(b, "src/lib/a.c", "src/a.c")),
    ("symlink pointed elsewhere", Bench::service, |b| relink(b, "src/main.c")),
    ("symlink written another way", Bench::globs, |b| {
        symlink("main.c", b.path("src/l.c")).unwrap();
        let before = b.key();
        b.remove("src/l.c");
        symlink("./main.c", b.path("src/l.c")).unwrap();
        assert_ne!(before, b.key());
    }),
    ("what a copied symlink leads to", Bench::service, |b| b.write("tool.sh", "#!/bin/bash")),
    ("file turned symlink", Bench::service, |b| {
        moved(b, "src/lib/a.c", "a.c");
        symlink("../../a.c", b.path("src/lib/a.c")).unwrap();
    }),
    ("symlink turned file", Bench::service, |b| {
        b.remove("link");
        b.write("link", "#!/bin/sh");
    }),
    ("file turned folder", Bench::service, |b| {
        b.remove("src/main.c");
        fs_err::create_dir(b.path("src/main.c")).unwrap();
    }),
    ("folder turned file", Bench::service, |b| {
        fs_err::remove_dir(b.path("src/empty")).unwrap();
        b.write("src/empty", "");
    }),
    ("symlink turned folder", Bench::service, |b| {
        b.remove("link");
        fs_err::create_dir(b.path("link")).unwrap();
    }),
    ("empty folder added", Bench::service, |b| {
        fs_err::create_dir(b.path("src/new")).unwrap();
    }),
    ("empty folder removed", Bench::service, |b| {
        fs_err::remove_dir(b.path("src/empty")).unwrap();
    }),
    ("file added to a copied folder", Bench::service, |b| b.write("src/lib/c.c", "")),
    ("file removed from a copied folder", Bench::service, |b| b.remove("src/lib/a.c")),
    ("file whose name is not text", Bench::service, |b| {
        use std::os::unix::ffi::OsStrExt as _;
        let name = std::ffi::OsStr::from_bytes(b"src/\xff");
        fs_err::write(b.spec.root.join(name), "").unwrap();
    }),
    ("file in a bind mount's source", Bench::service, |b| b.write("conf/settings", "t")),
    ("file that a wildcard matches now", Bench::service, |b| b.write("assets-2/logo", "l")),
    ("device in a copied folder", Bench::service, |b| {
        let fifo = b.path("src/fifo");
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o644),
            0,
        );
        made.unwrap();
    }),
];

/// What selects the files, and what is built from them.
const RULES: &[Change] = &[
    ("ignore file leaves out a file", Bench::service, |b| ignore(b, "src/lib/a.c\n")),
    ("ignore file leaves out a folder", Bench::service, |b| ignore(b, "src/lib\n")),
    ("ignore file lets a file in", Bench::service, |b| ignore(b, "!src/lib/x.tmp\n")),
    ("ignore file gone", Bench::service, |b| b.remove(".dockerignore")),
    ("ignore file of the Dockerfile's own", Bench::service, |b| {
        b.write("Dockerfile.dockerignore", "src/lib\n");
    }),
    ("file that an exception brings back", Bench::service, |b| b.write("src/keep.tmp", "k")),
    ("exclude added", Bench::service, |b| b.spec.exclude.patterns.push("src/lib".into())),
    ("exclude removed", Bench::service, |b| b.spec.exclude.defaults = false),
    (".dockerignore that is itself copied", Bench::service, |b| {
        b.dockerfile("COPY tool.sh link assets*", "COPY . /all\nCOPY tool.sh link assets*");
        let before = b.key();
        b.write(".dockerignore", &format!("{IGNORE}# no rule\n"));
        assert_ne!(before, b.key());
    }),
    ("inputs glob added", Bench::globs, |b| b.globs_are(&["src/**/*.c", "conf", "README"])),
    ("inputs glob removed", Bench::globs, |b| b.globs_are(&["src/**/*.c"])),
    ("file that an inputs glob matches", Bench::globs, |b| b.write("src/lib/a.c", "A")),
    ("file new to an inputs glob", Bench::globs, |b| b.write("src/new/z.c", "")),
    ("frontend", Bench::service, |b| b.dockerfile("dockerfile:1\n", "dockerfile:1.7\n")),
    ("frontend that a build arg names", Bench::service, |b| {
        b.arg("BUILDKIT_SYNTAX", "x/y:1");
        let before = b.key();
        b.arg("BUILDKIT_SYNTAX", "x/y:2");
        assert_ne!(before, b.key());
    }),
    ("undeclared arg that switches the engine", Bench::service, |b| {
        b.arg("BUILDKIT_SANDBOX_HOSTNAME", "h");
    }),
    ("proxy that is declared", Bench::service, |b| {
        b.dockerfile("ARG TAGS=none", "ARG TAGS=none\nARG HTTP_PROXY");
        let before = b.key();
        b.arg("HTTP_PROXY", "http://proxy:3128");
        assert_ne!(before, b.key());
    }),
    ("instruction", Bench::service, |b| b.dockerfile("/conf make", "/conf make all")),
    ("instruction added", Bench::service, |b| b.dockerfile("WORKDIR /src", "WORKDIR /src\nUSER 1")),
    ("instructions swapped", Bench::service, |b| {
        b.dockerfile(
            "ARG TAGS=none\nARG COMMIT\nWORKDIR /src",
            "WORKDIR /src\nARG TAGS=none\nARG COMMIT",
        );
    }),
    ("LABEL instruction", Bench::service, |b| b.dockerfile("LABEL revision", "LABEL rev")),
    ("stage that is used", Bench::service, |b| {
        b.dockerfile("FROM debian:12 AS build", "FROM debian:12 AS build\nENV A=1");
    }),
    ("stage that comes into use", Bench::service, |b| {
        b.dockerfile(
            "COPY --from=build /src /app",
            "COPY --from=build /src /app\nCOPY --from=debug / /",
        );
    }),
    ("base named otherwise", Bench::service, |b| b.dockerfile("FROM alpine:3", "FROM alpine:3.22")),
    ("target", Bench::service, |b| b.spec.target = Some("debug".into())),
    ("platform", Bench::service, |b| b.spec.platform = Some("linux/arm64".into())),
    ("ARG default that is used", Bench::service, |b| {
        b.dockerfile("ARG VERSION=1", "ARG VERSION=2");
    }),
    ("declared build arg", Bench::service, |b| b.arg("TAGS", "unit")),
    ("declared build arg given", Bench::service, |b| b.arg("VERSION", "2")),
    ("declared build arg no longer given", Bench::service, |b| drop(b.spec.args.remove("TAGS"))),
    ("build arg that comes to be declared", Bench::service, |b| {
        b.dockerfile("ARG COMMIT", "ARG COMMIT\nARG UNDECLARED");
    }),
    ("volatile arg that no longer is", Bench::service, |b| b.spec.volatile_args.clear()),
    ("base image of another id", Bench::service, |b| {
        b.held.insert("debian:12".into(), "e".repeat(64));
    }),
    ("base image not held", Bench::service, |b| drop(b.held.remove("alpine:3"))),
    ("secret no longer given", Bench::service, |b| b.spec.secrets.clear()),
    ("secret id", Bench::service, |b| b.dockerfile("id=token", "id=other")),
    ("heredoc", Bench::service, |b| b.dockerfile("hello", "hallo")),
];

/// A package's closure in a Cargo workspace.
const CARGO: &[Change] = &[
    ("member's source", Bench::cargo, |b| b.write("api/src/main.rs", "fn main() { }")),
    ("member's new file", Bench::cargo, |b| b.write("api/build.rs", "")),
    ("member's manifest", Bench::cargo, |b| {
        b.turn("api/Cargo.toml", "[package]\n", "[package]\nversion = '2.0.0'\n");
    }),
    ("source of a member it depends on", Bench::cargo, |b| {
        b.write("log/src/lib.rs", "pub fn l() {}");
    }),
    ("lock entry of its own", Bench::cargo, |b| lock(b, "serde", "1.0.1")),
    ("workspace dependency it uses", Bench::cargo, |b| {
        b.turn("Cargo.toml", "serde = '1'", "serde = '1.0.1'");
    }),
    ("profile", Bench::cargo, |b| {
        b.turn("Cargo.toml", "[workspace]\n", "[profile.release]\nlto = true\n[workspace]\n");
    }),
    ("toolchain file", Bench::cargo, |b| b.turn("rust-toolchain.toml", "1.95", "1.96")),
    ("cargo's configuration", Bench::cargo, |b| b.write(".cargo/config.toml", "[net]\n")),
    ("another member it comes to depend on", Bench::cargo, |b| {
        b.turn("api/Cargo.toml", "[dependencies]\n", "[dependencies]\njob.path = '../job'\n");
    }),
    ("another package", Bench::cargo, |b| b.takes_cargo("job", &["db/*.sql"])),
    ("file that `also` names", Bench::cargo, |b| b.write("db/schema.sql", "create table u")),
    ("file new to a glob of `also`", Bench::cargo, |b| b.write("db/more.sql", "")),
    ("`also` gone", Bench::cargo, |b| b.takes_cargo("api", &[])),
];

/// A Go package's closure.
const GO: &[Change] = &[
    ("package's source", Bench::go, |b| b.turn("cmd/api/main.go", "main() {}", "main() { }")),
    ("package's new file", Bench::go, |b| b.write("cmd/api/more.go", "package main\n")),
    ("source of an imported package", Bench::go, |b| b.write("log/log_linux.go", "package log\n")),
    ("source for another platform", Bench::go, |b| b.write("log/log_windows.go", "package l\n")),
    ("file that is embedded", Bench::go, |b| b.write("log/templates/a.txt", "b")),
    ("file new to what is embedded", Bench::go, |b| b.write("log/templates/b.txt", "")),
    ("package's new import", Bench::go, |b| {
        b.turn("cmd/api/main.go", "import (\n", "import (\n\t_ \"a.b/m/jobs\"\n");
    }),
    ("source of a local replacement", Bench::go, |b| b.write("lib/lib.go", "package lib // l\n")),
    ("manifest of a local replacement", Bench::go, |b| b.write("lib/go.mod", "module a.b/lib\n\n")),
    ("go.mod", Bench::go, |b| b.turn("go.mod", "go 1.24", "go 1.25")),
    ("go.sum", Bench::go, |b| b.write("go.sum", "x v2 h1:\n")),
    ("go.work that comes to be", Bench::go, |b| b.write("go.work", "go 1.24\n\nuse .\n")),
    ("profile for the compiler", Bench::go, |b| b.write("cmd/api/default.pgo", "")),
    ("another program", Bench::go, |b| b.takes_go("./cmd/job", &["db/*.sql"])),
    ("all programs", Bench::go, |b| b.takes_go("./cmd/...", &["db/*.sql"])),
    ("file that Go's `also` names", Bench::go, |b| b.write("db/schema.sql", "create table u")),
];

/// What a base hands down.
const BASES: &[Change] = &[
    ("file that a base's variable names", Bench::on_known_base, |b| b.write("src/lib/a.c", "A")),
    ("file that a base's trigger reads", Bench::on_known_base, |b| b.write("conf/settings", "t")),
    ("variable of a base", Bench::on_known_base, |b| {
        b.base_is(&[("PART", "debug")], &["COPY conf /conf"]);
    }),
    ("trigger of a base", Bench::on_known_base, |b| b.base_is(&[("PART", "src/lib")], &[])),
    ("trigger that uses a base's variable", Bench::on_known_base, |b| {
        b.base_is(&[("PART", "src/lib")], &["COPY $PART/a.c /a"]);
    }),
    ("any file, the base not being known", Bench::on_known_base, |b| {
        b.known.clear();
        let before = b.key();
        b.write("README", "other words");
        assert_ne!(before, b.key());
    }),
];

/// What must leave the key alone.
const NOTHING: &[Change] = &[
    ("mtime", Bench::service, |b| touch(b, "src/main.c", SystemTime::UNIX_EPOCH)),
    ("mtime of a folder", Bench::service, |b| {
        b.write("src/lib/passing", "");
        b.remove("src/lib/passing");
    }),
    ("owner", Bench::service, |b| {
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(b.path("src/main.c"), Some(1234), Some(1234)).unwrap();
        }
    }),
    ("file of git's own mode, whatever the umask", Bench::in_git, |b| {
        b.chmod(".git", 0o775);
        b.chmod("src/main.c", 0o664);
        b.chmod("tool.sh", 0o775);
        b.chmod("src/lib", 0o775);
    }),
    ("file that is ignored", Bench::service, |b| b.write("logs/today", "loud")),
    ("file new to an ignored folder", Bench::service, |b| b.write("logs/deep/er", "")),
    ("file that no instruction reads", Bench::service, |b| b.write("README", "other words")),
    ("file of a stage that is not reached", Bench::service, |b| b.write("debug/gdb", "h")),
    ("comment in the Dockerfile", Bench::service, |b| b.dockerfile("# The token", "# A token")),
    ("blank line in the Dockerfile", Bench::service, |b| {
        b.dockerfile("WORKDIR /src\n", "\nWORKDIR /src\n\n");
    }),
    ("stage that is not reached", Bench::service, |b| {
        b.dockerfile("COPY debug/ /debug/", "RUN gdb");
    }),
    ("build arg that is not declared", Bench::service, |b| b.arg("UNDECLARED", "2")),
    ("proxy that nobody declares", Bench::service, |b| b.arg("HTTP_PROXY", "http://proxy:3128")),
    ("volatile arg, here for a label alone", Bench::service, |b| b.arg("COMMIT", "decaf")),
    ("comment in an ignore file not sent", Bench::service, |b| ignore(b, "# nothing\n")),
    ("rule that leaves out nothing", Bench::service, |b| ignore(b, "no/such/file\n")),
    ("vendor/ and target/", Bench::service, |b| {
        b.write("src/vendor/v.c", "w");
        b.write("src/target/debug/new", "");
    }),
    ("file written again with the same bytes", Bench::service, |b| {
        b.write("src/main.c", "int main;");
    }),
    ("file replaced by its copy", Bench::service, |b| {
        b.write("copy", "int main;");
        moved(b, "copy", "src/main.c");
    }),
    ("file removed and put back", Bench::service, |b| {
        b.remove("src/lib/a.c");
        b.write("src/lib/a.c", "a");
    }),
    ("secret that nothing mounts", Bench::service, |b| b.spec.secrets.push("more".into())),
    ("secret's value is never asked", Bench::service, |b| b.write("token", "secret")),
    ("id of an image that is no base", Bench::service, |b| {
        drop(b.held.insert("x".into(), "y".into()));
    }),
    ("the image's own name", Bench::service, |b| b.spec.name = "other".into()),
    ("context reached by a symlink", Bench::service, |b| {
        let other = b.folder.path().join("by-another-way");
        symlink(&b.spec.root, &other).unwrap();
        b.spec.root = other;
    }),
    ("file outside the inputs globs", Bench::globs, |b| b.write("README", "other words")),
    ("another member's source", Bench::cargo, |b| b.write("job/src/main.rs", "fn main() { }")),
    ("another member's manifest", Bench::cargo, |b| {
        b.turn("job/Cargo.toml", "[package]\n", "[package]\nversion = '2.0.0'\n");
    }),
    ("lock entry that another member needs", Bench::cargo, |b| lock(b, "rand", "1.0.1")),
    ("workspace dependency it does not use", Bench::cargo, |b| {
        b.turn("Cargo.toml", "'0.9'", "'0.10'");
    }),
    ("comment in the workspace's manifest", Bench::cargo, |b| {
        b.turn("Cargo.toml", "[workspace]\n", "# us\n[workspace]\n");
    }),
    ("a new member it does not depend on", Bench::cargo, |b| {
        b.turn("Cargo.toml", "'log']", "'log', 'new']");
        b.write("new/Cargo.toml", "[package]\nname = 'new'\n");
    }),
    ("file outside the members", Bench::cargo, |b| b.write("README.md", "other words")),
    ("file beside what `also` names", Bench::cargo, |b| b.write("db/notes", "other words")),
    ("Go test", Bench::go, |b| b.write("cmd/api/main_test.go", "package main\n\n")),
    ("source of another Go program", Bench::go, |b| b.write("cmd/job/more.go", "package main\n")),
    ("Go package that nothing imports", Bench::go, |b| b.write("jobs/jobs.go", "package j\n")),
    ("file beside what is embedded", Bench::go, |b| b.write("log/templates/a.md", "b")),
    ("file outside the Go packages", Bench::go, |b| b.write("README.md", "other words")),
    ("file beside what a base's variable names", Bench::on_known_base, |b| {
        b.write("src/main.c", "int mein;");
    }),
    ("variable of a base that nothing uses", Bench::on_known_base, |b| {
        b.base_is(&[("PART", "src/lib"), ("OTHER", "x")], &["COPY conf /conf"]);
    }),
];

fn same_size_and_mtime(bench: &mut Bench) {
    let mtime = fs_err::metadata(bench.path("src/main.c")).unwrap().modified().unwrap();
    bench.write("src/main.c", "int mein;");
    touch(bench, "src/main.c", mtime);
}

fn touch(bench: &Bench, path: &str, time: SystemTime) {
    let file = std::fs::File::options().write(true).open(bench.path(path)).unwrap();
    file.set_modified(time).unwrap();
}

fn moved(bench: &Bench, from: &str, to: &str) {
    fs_err::rename(bench.path(from), bench.path(to)).unwrap();
}

fn relink(bench: &Bench, target: &str) {
    bench.remove("link");
    symlink(target, bench.path("link")).unwrap();
}

fn ignore(bench: &Bench, more: &str) {
    bench.write(".dockerignore", &format!("{IGNORE}{more}"));
}

fn lock(bench: &Bench, package: &str, version: &str) {
    let entry = |version: &str| format!("name = '{package}'\nversion = '{version}'");
    bench.turn("Cargo.lock", &entry("1.0.0"), &entry(version));
}

/// Names of the changes after which the key is not as it should be.
fn wrong(changes: &[Change], must_change: bool) -> Vec<&'static str> {
    let is_wrong = |(_, bench, change): &&Change| {
        let mut bench = bench();
        let before = bench.key();
        change(&mut bench);
        (bench.key() != before) != must_change
    };
    changes.iter().filter(is_wrong).map(|(name, ..)| *name).collect()
}

#[test]
fn every_change_of_what_an_image_is_made_from_changes_its_key() {
    let must = [FILES, RULES, CARGO, GO, BASES].concat();
    let names: BTreeSet<_> = must.iter().map(|(name, ..)| name).collect();
    assert_eq!(names.len(), must.len(), "a name stands for one change");
    assert!(must.len() >= 40, "{}", must.len());
    assert_eq!(wrong(&must, true), [""; 0]);
}

#[test]
fn nothing_else_changes_it() {
    assert!(NOTHING.len() >= 15, "{}", NOTHING.len());
    assert_eq!(wrong(NOTHING, false), [""; 0]);
}

#[test]
fn two_checkouts_of_the_same_have_the_same_key_and_stage_the_same() {
    let here = Bench::service();
    let far =
        tempfile::Builder::new().prefix("another place with a longer name").tempdir().unwrap();
    let there = Bench::service_in(far, |mut files| {
        files.reverse();
        files
    });
    touch(&there, "src/lib/a.c", SystemTime::now() - Duration::from_secs(1_000_000));
    assert_eq!(here.key(), there.key());
    let stages = [here.folder.path().join("stage"), there.folder.path().join("stage")];
    assert_eq!(here.staged(&stages[0]), here.key());
    assert_eq!(there.staged(&stages[1]), here.key());
    assert_eq!(listing(&stages[0]), listing(&stages[1]));
}

#[test]
fn checkouts_under_any_umask_have_the_same_key_and_stage_the_same() {
    let origin = Bench::in_git();
    let mut keys = BTreeSet::new();
    let mut stages = Vec::new();
    for umask in ["022", "002", "027", "077"] {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (origin.path(""), folder.path().join("context"));
        let clone = format!("umask {umask}; git clone --quiet {} {}", from.display(), to.display());
        xtask::process::Tool::new("sh").args(["-c", &clone]).run().unwrap();
        // A secret that git does not know is nobody else's, under any umask.
        fs_err::write(to.join("src/secret"), "s").unwrap();
        fs_err::set_permissions(to.join("src/secret"), PermissionsExt::from_mode(0o600)).unwrap();
        let (spec, held) = (Spec { root: to, ..origin.spec.clone() }, origin.held.clone());
        let bench = Bench { folder, spec, held, known: Bases::new() };
        let stage = bench.folder.path().join("stage");
        keys.insert(bench.staged(&stage).to_string());
        stages.push((bench.folder, stage));
    }
    assert_eq!(keys.len(), 1, "{keys:?}");
    let listings: Vec<_> = stages.iter().map(|(_, stage)| listing(stage)).collect();
    assert!(listings.iter().all(|one| *one == listings[0]));
    assert_eq!(listings[0][Path::new("src/secret")].0 & 0o777, 0o600);
    assert_eq!(listings[0][Path::new("tool.sh")].0 & 0o777, 0o755);
}

/// Every path below a folder with its mode and content.
fn listing(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut next = vec![folder.to_owned()];
    while let Some(at) = next.pop() {
        for entry in fs_err::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs_err::symlink_metadata(&path).unwrap();
            let content = match () {
                () if meta.is_symlink() => {
                    fs_err::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
                }
                () if meta.is_file() => fs_err::read(&path).unwrap(),
                () => Vec::new(),
            };
            if meta.is_dir() {
                next.push(path.clone());
            }
            let relative = path.strip_prefix(folder).unwrap().to_owned();
            all.insert(relative, (meta.permissions().mode(), content));
        }
    }
    all
}
