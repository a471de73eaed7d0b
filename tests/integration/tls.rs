//! A server that encrypts by itself.

use std::path::Path;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use reqwest::{Certificate, Client, StatusCode, tls::Version};
use salespulse::secret_file;
use salespulse::server::Options;
use salespulse::tls::{Files, Tls};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::{Server, TestApp};

/// Writes a new certificate and its key into a folder; gives the certificate.
fn certify(folder: &Path) -> (Files, String) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let files = Files { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.certificate, certified.cert.pem()).expect("written");
    secret_file::write(&files.key, &certified.signing_key.serialize_pem()).expect("written");
    (files, certified.cert.pem())
}

fn client(pem: &str, most: Version) -> Client {
    let root = Certificate::from_pem(pem.as_bytes()).expect("a certificate");
    let client = Client::builder().tls_built_in_root_certs(false).add_root_certificate(root);
    client.max_tls_version(most).no_proxy().build().expect("a client")
}

/// An encrypted connection that has agreed to what the server speaks.
async fn connect(server: &Server, pem: &str) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions").with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let tcp = TcpStream::connect(server.address).await.expect("connected");
    let name = "localhost".try_into().expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("encrypted")
}

#[tokio::test]
async fn requests_come_by_tls_1_3_and_by_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let (files, pem) = certify(folder.path());
    let tls = Tls::new(files).expect("good");
    let test = TestApp::start().await;
    let server = Server::with(test.app.clone(), Options { tls: Some(tls.clone()), ..Options::default() }).await;
    let url = format!("https://localhost:{}/health", server.address.port());

    let answer = client(&pem, Version::TLS_1_3).get(&url).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");
    assert!(client(&pem, Version::TLS_1_2).get(&url).send().await.is_err());
    let (_, agreed) = connect(&server, &pem).await.into_inner();
    assert_eq!(agreed.alpn_protocol(), Some(b"http/1.1".as_slice()));

    // Who does not encrypt is sent an alert, and the connection is closed in order.
    let mut plain = TcpStream::connect(server.address).await.expect("connected");
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut told = Vec::new();
    plain.read_to_end(&mut told).await.expect("closed in order");
    assert_eq!(told.first(), Some(&21), "an alert (RFC 8446, 5.1): {told:?}");

    // A renewed certificate holds for new connections, and leaves those that are open.
    let mut open = connect(&server, &pem).await;
    let (_, renewed) = certify(folder.path());
    assert!(tls.reload().expect("good"));
    assert!(client(&pem, Version::TLS_1_3).get(&url).send().await.is_err());
    let answer = client(&renewed, Version::TLS_1_3).get(&url).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    open.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn sockets_are_encrypted_too_and_pages_that_are_not_may_not_open_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let (files, pem) = certify(folder.path());
    let test = TestApp::start().await;
    let token = test.tenant("acme").await.viewer().token();
    let options = Options { tls: Some(Tls::new(files).expect("good")), ..Options::default() };
    let server = Server::with(test.app.clone(), options).await;
    let open = async |origin: String| {
        let mut request = format!("wss://{}/graphql", server.address).into_client_request().expect("a request");
        for (name, value) in [("sec-websocket-protocol", "graphql-transport-ws"), ("origin", origin.as_str())] {
            request.headers_mut().insert(name, value.parse().expect("a header"));
        }
        tokio_tungstenite::client_async(request, connect(&server, &pem).await).await
    };
    assert!(open(format!("http://{}", server.address)).await.is_err());
    let (mut socket, _) = open(format!("https://{}", server.address)).await.expect("upgraded");
    for message in [
        json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {token}") } }),
        json!({ "type": "subscribe", "id": "1", "payload": { "query": "{ me { role } }" } }),
    ] {
        socket.send(Message::text(message.to_string())).await.expect("sent");
    }
    let mut answers = Vec::new();
    while answers.len() < 2 {
        if let Message::Text(text) = socket.next().await.expect("open").expect("a message") {
            answers.push(serde_json::from_str::<Value>(&text).expect("JSON"));
        }
    }
    assert_eq!(answers[0]["type"], "connection_ack");
    assert_eq!(answers[1]["payload"]["data"]["me"]["role"], "VIEWER");
    server.stop().await;
}
