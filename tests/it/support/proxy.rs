//! A TCP proxy that loses a connection right after a COMMIT went through: the server commits, the client never hears.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct Proxy {
    pub(crate) url: String,
    commits: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Forwards to the server of `url` and cuts the connection that sends the `cut`-th COMMIT (from 1; 0 for never).
    pub(crate) async fn start(url: &str, cut: usize) -> Self {
        let address = url.split('@').nth(1).unwrap().split('/').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().to_string();
        let commits = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&commits);
        let server = address.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, seen) = (server.clone(), Arc::clone(&seen));
                tokio::spawn(async move { forward(client, &server, &seen, cut).await });
            }
        });
        Self { url: url.replace(&address, &own), commits, task }
    }

    /// COMMITs that went through so far.
    pub(crate) fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(client: TcpStream, server: &str, seen: &AtomicUsize, cut: usize) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut buffer = vec![0; 65_536];
    while let Ok(read) = from_client.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        let commit = buffer[..read].windows(7).any(|window| window == b"COMMIT\0");
        if commit && seen.fetch_add(1, Ordering::SeqCst) + 1 == cut {
            // The answer must not get through: stop listening before the server hears of it.
            back.abort();
            let _ = to_server.write_all(&buffer[..read]).await;
            let _ = to_server.flush().await;
            break;
        }
        if to_server.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    back.abort();
}
