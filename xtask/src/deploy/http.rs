//! A GET and a TCP connection, as waits need them: no redirects, no proxy, only the status.

use std::io::{ErrorKind, Read as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Error};

use crate::config::Trust;

/// How long a connection must stay open: what publishes an engine's ports accepts before it knows
/// whether anybody is behind them, and closes at once if not.
const STAYS: Duration = Duration::from_millis(300);

/// How long an answer may take before it counts as none.
const LIMIT: Duration = Duration::from_secs(3);

/// The status of a GET on `http[s]://HOST[:PORT][/PATH]`. `trust` says whose certificate https
/// accepts; its file is read anew at each try, since a step may make it while others wait. The
/// host's own roots are not an option: what a suite waits for has a certificate made for the run.
pub(super) fn get(url: &str, trust: Option<&Trust>) -> anyhow::Result<u16> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
    let tls = match trust {
        Some(Trust::Ca(file)) => tls.root_certs(RootCerts::new_with_certs(&certificates(file)?)),
        Some(Trust::Any) => tls.disable_verification(true),
        None if url.starts_with("https://") => {
            bail!("nothing says whose certificate `{url}` may have")
        }
        None => tls,
    };
    let agent: Agent = Agent::config_builder()
        .timeout_global(Some(LIMIT))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .user_agent("xtask")
        .tls_config(tls.build())
        .build()
        .into();
    match agent.get(url).call() {
        Ok(answer) => Ok(answer.status().as_u16()),
        Err(Error::Protocol(_)) => bail!("what answered at {url} does not speak HTTP"),
        Err(error) => Err(error).with_context(|| format!("no answer from {url}")),
    }
}

fn certificates(file: &Path) -> anyhow::Result<Vec<Certificate<'static>>> {
    let what = || format!("failed to read certificates from `{}`", file.display());
    let pem = fs_err::read(file)?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.with_context(what)? {
            certificates.push(certificate);
        }
    }
    ensure!(!certificates.is_empty(), "there is no certificate in `{}`", file.display());
    Ok(certificates)
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, Write as _};
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
