//! The program that tests put on PATH as `podman`, `kind`, `kubectl` and `ask`.
//!
//! It knows nothing itself: which of them it is, its arguments and its input go to the test
//! process, which is asked on a socket beside the link that it was started by
//! (`support/bench/serve.rs`), and it does what it is told. `ask` is a suite's test: it asks who
//! answers behind `$WEB_URL`, and passes whoever does.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::exit,
    reason = "a program of the tests: what it cannot do is a failed test"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "it becomes the real program, with no owner but its own"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// How many questions `ask` asks: behind one address there may be several.
const QUESTIONS: usize = 3;

fn main() {
    let mut words = std::env::args();
    let program = words.next().unwrap();
    let program = Path::new(&program).file_name().unwrap().to_str().unwrap().to_owned();
    let args: Vec<String> = words.collect();
    if program == "ask" {
        return ask(&args);
    }
    let mut input = String::new();
    // The real program, which reads what asks no cluster, reads its input itself.
    let reads = !args.iter().any(|arg| arg == "--local");
    if reads && args.iter().any(|arg| arg == "-") {
        std::io::stdin().read_to_string(&mut input).unwrap();
    }
    let (answer, _connection) = call(&program, &args, &input);
    match answer["do"].as_str().unwrap() {
        "exec" => {
            let error = Command::new(answer["program"].as_str().unwrap()).args(&args).exec();
            panic!("{}: {error}", answer["program"]);
        }
        // Until it is killed.
        "hold" => loop {
            std::thread::park();
        },
        _ => {
            std::io::stdout().write_all(answer["stdout"].as_str().unwrap().as_bytes()).unwrap();
            std::io::stderr().write_all(answer["stderr"].as_str().unwrap().as_bytes()).unwrap();
            std::process::exit(answer["code"].as_i64().unwrap().try_into().unwrap());
        }
    }
}

/// What the test process has this program do. The connection shows it how long the program lives.
fn call(program: &str, args: &[String], input: &str) -> (Value, BufReader<UnixStream>) {
    let mut stream = UnixStream::connect(socket()).unwrap();
    let call = json!({"program": program, "args": args, "input": input});
    writeln!(stream, "{call}").unwrap();
    let mut stream = BufReader::new(stream);
    let mut answer = String::new();
    stream.read_line(&mut answer).unwrap();
    (serde_json::from_str(&answer).unwrap(), stream)
}

/// Beside the link; whose folder is on PATH.
fn socket() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let sockets = std::env::split_paths(&path).map(|folder| folder.join("bench.sock"));
    sockets.into_iter().find(|socket| socket.exists()).unwrap()
}

fn ask(args: &[String]) {
    call("ask", args, "");
    let given = std::env::var("WEB_IMAGE").unwrap_or_default();
    let address = format!("{}:{}", var("WEB_HOST"), var("WEB_PORT"));
    for _ in 0..QUESTIONS {
        let body = get(&address).unwrap_or_default();
        println!("answered by: {}  given: {given}", if body.is_empty() { "none" } else { &body });
        call("answered", &[given.clone(), body], "");
    }
    println!(
        "test result: ok. {QUESTIONS} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out"
    );
}

fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// The body of the answer; none where nobody answers.
fn get(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET /ask HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}
