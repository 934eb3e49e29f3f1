//! One server that answers for every pod: with the address that was called, which is the
//! pod's.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::error::{Result, Tried};

/// The port of all containers of the test bed.
const PORT: u16 = 8080;

/// Answers until the task is ended.
///
/// # Errors
/// When the port is taken.
pub async fn answer() -> Result<JoinHandle<()>> {
    let listener = TcpListener::bind(("0.0.0.0", PORT))
        .await
        .tried(|| format!("listen on port {PORT} for all pods"))?;
    Ok(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    }))
}

/// Requests have no body: each ends with an empty line.
async fn serve(mut stream: TcpStream) -> Option<()> {
    let own = stream.local_addr().ok()?.ip().to_string();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{own}", own.len());
    let mut held = Vec::new();
    let mut part = [0_u8; 4096];
    loop {
        let read = stream.read(&mut part).await.ok().filter(|read| *read > 0)?;
        held.extend_from_slice(&part[..read]);
        while let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") {
            held.drain(..end + 4);
            stream.write_all(answer.as_bytes()).await.ok()?;
        }
    }
}
