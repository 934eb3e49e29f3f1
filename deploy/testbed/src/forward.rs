//! A way across the border of a network namespace: a socket in the file system is
//! visible on both sides. Inside, connections to the socket go to a port; outside,
//! connections to a port go to the socket. Bytes are passed on as they are.
//!
//! A peer that goes away ends its connection; nothing is tried again.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::JoinHandle,
};

use crate::error::{Result, Tried};

/// Connections are passed on until this is dropped; those that are open then live on.
#[derive(Debug)]
pub struct Forward(JoinHandle<()>);

impl Drop for Forward {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Inside: what connects to `socket` reaches `address`.
///
/// # Errors
/// When the socket cannot be made; its path may have about 100 bytes.
pub fn to_port(socket: &Path, address: SocketAddr) -> Result<Forward> {
    let listener =
        UnixListener::bind(socket).tried(|| format!("make the socket {}", socket.display()))?;
    Ok(Forward(tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(async move {
                // Who connects sees a closed connection, as without a forwarder.
                if let Ok(far) = TcpStream::connect(address).await {
                    pass(near, far).await;
                }
            });
        }
    })))
}

/// Outside: a port of 127.0.0.1, not yet connected to anything.
///
/// # Errors
/// When the port is taken; 0 takes a free one.
pub async fn listen(port: u16) -> Result<TcpListener> {
    let address = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(address).await.tried(|| format!("listen on port {port}"))
}

/// Outside: what connects to `listener` reaches `socket`.
#[must_use]
pub fn to_socket(listener: TcpListener, socket: PathBuf) -> Forward {
    Forward(tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let socket = socket.clone();
            tokio::spawn(async move {
                if let Ok(far) = UnixStream::connect(socket).await {
                    pass(near, far).await;
                }
            });
        }
    }))
}

async fn pass(
    mut near: impl AsyncRead + AsyncWrite + Unpin,
    mut far: impl AsyncRead + AsyncWrite + Unpin,
) {
    // An end with an error is an end.
    let _ = copy_bidirectional(&mut near, &mut far).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bytes_go_through_both_forwarders_and_back() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut connection, _) = server.accept().await.unwrap();
            let mut text = String::new();
            connection.read_to_string(&mut text).await.unwrap();
            connection.write_all(text.to_uppercase().as_bytes()).await.unwrap();
        });
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _inside = to_port(&socket, address).unwrap();
        let listener = listen(0).await.unwrap();
        let outside = listener.local_addr().unwrap();
        let _outside = to_socket(listener, socket);

        let mut client = TcpStream::connect(outside).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "HELLO");
    }
}
