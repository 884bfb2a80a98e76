//! As much of Redis as the gateway uses, over real TCP: `GET`, `SET` with `NX` and `PX`, and its
//! two scripts. Nothing expires by itself; [`RedisServer::forget`] stands for the TTL.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The running fake; gone on drop or [`RedisServer::stop`].
pub(crate) struct RedisServer {
    address: SocketAddr,
    keys: Keys,
    tasks: JoinSet<()>,
}

type Keys = Arc<Mutex<HashMap<String, String>>>;

impl RedisServer {
    pub(crate) async fn start() -> Self {
        let mut server = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            keys: Keys::default(),
            tasks: JoinSet::new(),
        };
        server.listen().await;
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Ends every connection and refuses new ones.
    pub(crate) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Listens again where it did, as empty as a new pod.
    pub(crate) async fn start_again(&mut self) {
        self.forget();
        self.listen().await;
    }

    /// Every key runs out.
    pub(crate) fn forget(&self) {
        self.keys.lock().unwrap().clear();
    }

    pub(crate) fn values(&self) -> Vec<String> {
        self.keys.lock().unwrap().values().cloned().collect()
    }

    async fn listen(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let keys = Arc::clone(&self.keys);
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(converse(stream, Arc::clone(&keys)));
            }
        });
    }
}

async fn converse(stream: TcpStream, keys: Keys) {
    let mut stream = BufReader::new(stream);
    while let Some(command) = read_command(&mut stream).await {
        let reply = reply(&command, &keys);
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// An array of bulk strings, or nothing when the client is gone.
async fn read_command(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let count = read_number(stream, '*').await?;
    let mut command = Vec::with_capacity(count);
    for _ in 0..count {
        let length = read_number(stream, '$').await?;
        let mut bytes = vec![0; length + 2];
        stream.read_exact(&mut bytes).await.ok()?;
        command.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
    }
    Some(command)
}

async fn read_number(stream: &mut BufReader<TcpStream>, mark: char) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.trim_end().strip_prefix(mark)?.parse().ok()
}

fn reply(command: &[String], keys: &Keys) -> String {
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut keys = keys.lock().unwrap();
    let bulk = |value: Option<&String>| {
        value.map_or("$-1\r\n".to_owned(), |text| format!("${}\r\n{text}\r\n", text.len()))
    };
    match command[..] {
        ["PING"] => "+PONG\r\n".to_owned(),
        ["GET", key] => bulk(keys.get(key)),
        ["SET", key, value, "NX", "PX", _] => {
            if keys.contains_key(key) {
                return bulk(None);
            }
            keys.insert(key.to_owned(), value.to_owned());
            "+OK\r\n".to_owned()
        }
        ["EVAL", _, "1", key, old, ..] if keys.get(key).is_none_or(|value| value != old) => {
            ":0\r\n".to_owned()
        }
        ["EVAL", _, "1", key, _, new, _] => {
            keys.insert(key.to_owned(), new.to_owned());
            ":1\r\n".to_owned()
        }
        ["EVAL", _, "1", key, _] => {
            keys.remove(key);
            ":1\r\n".to_owned()
        }
        ["CLIENT", ..] => "+OK\r\n".to_owned(),
        _ => format!("-ERR unknown command {command:?}\r\n"),
    }
}
