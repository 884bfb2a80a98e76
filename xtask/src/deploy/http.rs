//! One HTTP/1.1 GET and a TCP connection, as waits need them: no redirects, only the status.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::tls;
use crate::config::Trust;

/// How long a connection must stay open: what publishes an engine's ports accepts before it knows
/// whether anybody is behind them, and closes at once if not.
const STAYS: Duration = Duration::from_millis(300);

/// How long an answer may take before it counts as none.
const LIMIT: Duration = Duration::from_secs(3);

/// The status of a GET on `http[s]://HOST[:PORT][/PATH]`. `trust` says whose certificate https
/// accepts.
pub(super) fn get(url: &str, trust: Option<&Trust>) -> anyhow::Result<u16> {
    let (secure, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => bail!("`{url}` is not of the form http://HOST:PORT/PATH"),
    };
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let port = if secure { 443 } else { 80 };
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") };
    let stream = connect(&address)?;
    let head = match trust {
        Some(trust) if secure => {
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            ask(tls::over(stream, name, trust)?, host, path)?
        }
        None if secure => bail!("nothing says whose certificate `{url}` may have"),
        _ => ask(stream, host, path)?,
    };
    status(&head).with_context(|| format!("what answered at {address} does not speak HTTP"))
}

/// The first bytes of the answer.
fn ask(mut stream: impl Read + Write, host: &str, path: &str) -> anyhow::Result<[u8; 12]> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: xtask\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).context("the connection was closed")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).context("the connection was closed without an answer")?;
    Ok(head)
}

/// A connection to `HOST:PORT`.
pub(super) fn connect(address: &str) -> anyhow::Result<TcpStream> {
    let mut last = None;
    for one in address.to_socket_addrs().with_context(|| format!("`{address}` has no address"))? {
        match TcpStream::connect_timeout(&one, LIMIT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(LIMIT))?;
                stream.set_write_timeout(Some(LIMIT))?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => bail!("no connection to {address}: {error}"),
        None => bail!("`{address}` has no address"),
    }
}

/// Whether `HOST:PORT` accepts a connection and does not close it at once.
pub(super) fn stays(address: &str) -> anyhow::Result<()> {
    let mut stream = connect(address)?;
    stream.set_read_timeout(Some(STAYS))?;
    match stream.read(&mut [0]) {
        Ok(0) => bail!("{address} accepts connections and closes them at once"),
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
        Err(error) => bail!("the connection to {address} did not stay: {error}"),
    }
}

/// Of `HTTP/1.1 200`.
fn status(head: &[u8; 12]) -> Option<u16> {
    let text = std::str::from_utf8(head).ok()?;
    let (version, status) = text.split_once(' ')?;
    if version.starts_with("HTTP/1.") { status.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::io::BufRead as _;
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with `answer`; gives back its address and the request's first line.
    fn serve(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // The whole request is read: what is left unread when a socket closes resets it.
            let lines = std::io::BufReader::new(&stream).lines().map_while(Result::ok);
            let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            stream.write_all(answer.as_bytes()).unwrap();
            request.into_iter().next().unwrap()
        });
        (address, thread)
    }

    #[test]
    fn the_status_is_read_and_the_path_is_asked() {
        let (address, thread) = serve("HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert_eq!(get(&format!("http://{address}/readyz?x=1"), None).unwrap(), 503);
        assert_eq!(thread.join().unwrap(), "GET /readyz?x=1 HTTP/1.1");
    }

    #[test]
    fn what_is_not_http_is_an_error() {
        let (address, _) = serve("SSH-2.0-OpenSSH_9.2 and more\r\n");
        assert!(get(&format!("http://{address}"), None).unwrap_err().to_string().contains("HTTP"));
        assert!(get("https://a", None).is_err());
    }

    #[test]
    fn a_connection_counts_if_it_stays_or_says_something() {
        for (says, stays) in [("", false), ("220 ready\r\n", true)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let thread = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(says.as_bytes()).unwrap();
            });
            assert_eq!(super::stays(&address).is_ok(), stays, "{says}");
            thread.join().unwrap();
        }
        // It is accepted by the kernel, and nobody closes it.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        super::stays(&silent.local_addr().unwrap().to_string()).unwrap();
    }

    #[test]
    fn nobody_listening_is_an_error_that_says_so() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let text = connect(&address).unwrap_err().to_string();
        assert!(text.contains("no connection to"), "{text}");
    }
}
