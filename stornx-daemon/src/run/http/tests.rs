//! What readers may take, over real connections: slow ones hold seats and no copies, are cut
//! off, and keep nobody from a probe.

use std::{net::SocketAddr, time::Duration};

use stornx_core::{
    engine::CycleError,
    policy::PricePolicy,
    ports::PortError,
    units::{Span, Timestamp},
};
use stornx_testbed::wait::until;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::*;
use crate::web::view::{HistoryPlace, Source};

const SOON: Duration = Duration::from_secs(20);
/// More than the system takes over for one connection.
const SIZE: usize = 24 << 20;
/// Nothing is cut off in a test that is about something else.
const PATIENT: Limits = Limits {
    connections: 256,
    large: 8,
    events: 4,
    head: Duration::from_secs(600),
    stall: Duration::from_secs(600),
    longest: Duration::from_secs(600),
};

struct Port {
    address: SocketAddr,
    large: Large,
    _shown: watch::Sender<Shown>,
    stop: tokio_util::sync::DropGuard,
    ended: tokio::task::JoinHandle<()>,
}

/// A port whose state is large.
async fn port(limits: Limits) -> Port {
    let board = Board::start(PricePolicy::default(), Span::from_seconds(3600), None);
    let error = PortError::Unavailable { what: "x".repeat(SIZE), detail: String::new() };
    let outcome = Arc::new(CycleOutcome {
        at: Timestamp::from_millis(1),
        snapshot: None,
        planned: None,
        outcomes: Vec::new(),
        memory: None,
        errors: vec![CycleError::Observe(error)],
        violations: Vec::new(),
        took: std::collections::BTreeMap::new(),
    });
    board.show_all(outcome.clone());
    timeout(SOON, board.documents().wait_for(|it| it.id == 1)).await.unwrap().unwrap();
    let last = Some(Arc::new(Last::new(outcome)));
    let (sender, shown) =
        watch::channel(Shown { stage: Stage::Running, turned: Instant::now(), last });
    let shop =
        Shop { shown, metrics: Arc::new(Metrics::new()), live: Arc::default(), dry_run: true };
    let banner = Banner {
        version: "1".to_owned(),
        source: Source::Cluster,
        stage: Stage::Running,
        dry_run: true,
        leader: None,
        kubernetes: None,
        scenario: None,
        namespaces: Vec::new(),
        not_ready: Vec::new(),
        next_cycle: None,
        overdue_since: None,
        history: HistoryPlace::Memory,
    };
    let stop = CancellationToken::new();
    let page = Page::new(board, Arc::new(move || banner.clone()), stop.clone(), limits);
    let large = page.large();
    let listener = web::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let ended = tokio::spawn(serve(listener, shop, page, limits, stop.clone()));
    Port { address, large, _shown: sender, stop: stop.drop_guard(), ended }
}

impl Port {
    /// A connection that takes little in advance.
    async fn connect(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// Asks, and reads no more than the status.
    async fn begin(&self, path: &str) -> (u16, TcpStream) {
        let mut stream = self.connect().await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: it\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        timeout(SOON, stream.read_exact(&mut status)).await.unwrap().unwrap();
        (std::str::from_utf8(&status[9..]).unwrap().parse().unwrap(), stream)
    }

    /// A whole answer.
    async fn get(&self, path: &str) -> String {
        let mut stream = self.connect().await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(stream).await
    }

    async fn free(&self, seats: usize) {
        let all = until("seats are free", SOON, async || {
            let free = self.large.free();
            if free == seats { Ok(()) } else { Err(format!("{free} seats are free")) }
        });
        all.await.unwrap();
    }
}

/// What comes until the other side ends; an abrupt end is one.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("it stays open");
    String::from_utf8(bytes).unwrap()
}

async fn answers(port: &Port) {
    for path in ["/healthz", "/readyz", "/metrics", "/api/v1/status"] {
        let answer = port.get(path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn two_hundred_slow_readers_hold_eight_seats_and_no_probe_waits() {
    let port = port(PATIENT).await;
    let mut slow = Vec::new();
    for n in 0..200 {
        let path = ["/api/v1/state", "/api/v1/snapshot", "/api/v1/plan", "/api/v1/history"];
        // The large one first: it is what nobody reads to its end.
        let path = if n < 8 { path[0] } else { path[n % 4] };
        let (status, stream) = port.begin(path).await;
        assert_eq!(status, if n < 8 { 200 } else { 503 }, "{n}: {path}");
        slow.push(stream);
    }
    assert_eq!(port.large.free(), 0);
    answers(&port).await;
    let refused = port.get("/api/v1/edges?search=a").await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("retry-after: 2"), "{refused}");
    assert!(refused.contains("8 large answers are under way"), "{refused}");
    // One that leaves makes room, and one that reads gets everything.
    slow.remove(0);
    port.free(1).await;
    let whole = port.get("/api/v1/state").await;
    assert!(whole.len() > SIZE && whole.ends_with('}'), "{} bytes", whole.len());
    port.free(1).await;
    drop(slow);
    port.free(8).await;
}

#[tokio::test]
async fn one_that_does_not_read_is_cut_off() {
    let port = port(Limits { stall: Duration::from_millis(200), ..PATIENT }).await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        slow.push(port.begin("/api/v1/state").await);
    }
    port.free(8).await;
    for (status, stream) in slow {
        assert_eq!(status, 200);
        assert!(rest(stream).await.len() < SIZE);
    }
    answers(&port).await;
}

#[tokio::test]
async fn one_that_reads_drop_by_drop_is_cut_off() {
    let port = port(Limits { longest: Duration::from_millis(500), ..PATIENT }).await;
    let (_, mut stream) = port.begin("/api/v1/state").await;
    let drops = async {
        let mut some = vec![0; 4096];
        let mut read = 0;
        while let Ok(more @ 1..) = stream.read(&mut some).await {
            read += more;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        read
    };
    assert!(timeout(SOON, drops).await.unwrap() < SIZE);
    port.free(8).await;
}

#[tokio::test]
async fn a_request_that_does_not_come_ends_its_connection() {
    let port = port(Limits { head: Duration::from_millis(200), ..PATIENT }).await;
    for begun in
        ["", "GET /healthz HTTP/1.1\r\nHost: it\r\n", "GET /healthz HTTP/1.1\r\nHost: it\r\n\r\n"]
    {
        let mut stream = port.connect().await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        rest(stream).await;
    }
}

#[tokio::test]
async fn the_stillest_connection_gives_way_to_one_too_many() {
    let port = port(Limits { connections: 16, ..PATIENT }).await;
    let mut first = port.connect().await;
    let mut others = Vec::new();
    for _ in 0..64 {
        others.push(port.connect().await);
    }
    answers(&port).await;
    let end = timeout(SOON, first.read(&mut [0])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn a_stop_ends_connections_that_wait_for_nothing() {
    let port = port(PATIENT).await;
    let idle = port.connect().await;
    let (status, events) = port.begin("/api/v1/events").await;
    assert_eq!(status, 200);
    drop(port.stop);
    rest(idle).await;
    rest(events).await;
    timeout(SOON, port.ended).await.unwrap().unwrap();
}
