//! Something between the daemon and Prometheus that passes questions on, or answers
//! them with what no Prometheus would say.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What the proxy does with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// Prometheus answers.
    Real,
    /// A page for people, with status 200, as a misconfigured gateway has it.
    Page,
    /// JSON that ends in the middle.
    Cut,
    /// Too many requests.
    Busy,
}

impl Answers {
    fn text(self) -> Option<String> {
        let answer = |status: &str, kind: &str, body: &str| {
            let length = body.len();
            format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{body}"
            )
        };
        match self {
            Self::Real => None,
            Self::Page => Some(answer("200 OK", "text/html", "<html>Please log in</html>")),
            Self::Cut => {
                let cut =
                    r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":"#;
                Some(answer("200 OK", "application/json", cut))
            }
            Self::Busy => Some(answer("429 Too Many Requests", "text/plain", "later\n")),
        }
    }
}

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<(Answers, Option<SocketAddr>)>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(crate) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new((Answers::Real, None)));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                // Who asks sees a closed connection where anything fails.
                tokio::spawn(serve(near, Arc::clone(&shared)));
            }
        });
        Ok(Self { address, state, task })
    }

    /// Says which Prometheus it stands before, and gives its own URL.
    pub(crate) fn before(&self, prometheus: SocketAddr) -> String {
        lock(&self.state).1 = Some(prometheus);
        format!("http://{}", self.address)
    }

    pub(crate) fn answers(&self, answers: Answers) {
        lock(&self.state).0 = answers;
    }
}

/// One question for each connection, so that each is answered as it is wanted then.
async fn serve(
    mut near: TcpStream,
    state: Arc<Mutex<(Answers, Option<SocketAddr>)>>,
) -> std::io::Result<()> {
    let (head, body) = question(&mut near).await?;
    let (answers, prometheus) = *lock(&state);
    if let Some(text) = answers.text() {
        return near.write_all(text.as_bytes()).await;
    }
    let Some(prometheus) = prometheus else { return Ok(()) };
    let mut far = TcpStream::connect(prometheus).await?;
    let kept = |line: &&str| !line.to_ascii_lowercase().starts_with("connection:");
    let head: Vec<&str> = head.split("\r\n").filter(kept).collect();
    let head = format!("{}\r\nConnection: close\r\n\r\n", head.join("\r\n"));
    far.write_all(head.as_bytes()).await?;
    far.write_all(&body).await?;
    tokio::io::copy(&mut far, &mut near).await.map(drop)
}

/// Head, without the empty line at its end, and body.
async fn question(near: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    const END: &[u8] = b"\r\n\r\n";
    let mut read = Vec::new();
    let head = loop {
        if near.read_buf(&mut read).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(at) = read.windows(END.len()).position(|window| window == END) {
            break at;
        }
    };
    let mut body = read.split_off(head + END.len());
    read.truncate(head);
    let head = String::from_utf8_lossy(&read).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    while body.len() < length.unwrap_or(0) {
        if near.read_buf(&mut body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((head, body))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
