//! Certificates: those of the authority that was named, and no others. No provider of
//! cryptography is installed for the process.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

mod support;

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::Arc,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivateKeyDer};
use stornx_core::model::Facts;
use stornx_prom::{Prometheus, PrometheusOptions};

/// A server with a certificate of its own that answers with nothing; its URL and
/// certificate.
fn server() -> (String, String) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, socket);
            let mut first = [0; 16_384];
            // A handshake that fails is what one of the tests wants.
            if stream.read(&mut first).is_ok() {
                let body = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length:";
                let _ = write!(stream, "{head} {}\r\n\r\n{body}", body.len());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    (format!("https://localhost:{port}"), cert.pem())
}

async fn reason(options: PrometheusOptions) -> String {
    match support::observe(&Prometheus::new(options).unwrap()).await.usage {
        Facts::Missing { reason } => reason,
        known => panic!("{known:?}"),
    }
}

#[tokio::test]
async fn the_named_authority_is_trusted_and_no_other() {
    let (url, pem) = server();
    let named = PrometheusOptions::builder(&url).ca_pem(pem).build().unwrap();
    assert!(reason(named).await.starts_with("no container metrics"));
    let (_, other) = server();
    let wrong = PrometheusOptions::builder(&url).ca_pem(other).build().unwrap();
    let text = reason(wrong).await;
    assert!(text.contains("no connection") && text.contains("certificate"), "{text}");
    let machine = PrometheusOptions::builder(&url).build().unwrap();
    let text = reason(machine).await;
    assert!(text.contains("no connection") && text.contains("certificate"), "{text}");
}
