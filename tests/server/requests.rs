//! What an honest client sees.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use cascade_hsm_bridge::bridge::After;
use cascade_hsm_bridge::server::tls::{self, TlsVersion};
use cascade_hsm_bridge::server::{Error, Server, Settings};

use crate::harness::*;

#[test]
fn answers_one_request_after_another() {
    let bench = Bench::start(echo(), |_| {});
    let mut client = bench.client();
    for number in 0..100 {
        assert_eq!(ask(&mut client, &format!("request {number}")), format!("request {number}"));
    }
}

#[test]
fn answers_requests_sent_at_once_in_their_order() {
    let bench = Bench::start(echo(), |_| {});
    let mut client = bench.client();
    let requests: Vec<String> = (0..300).map(|number| format!("request {number}{}", "x".repeat(number))).collect();
    let together: Vec<u8> = requests.iter().flat_map(|request| message(request.as_bytes())).collect();
    client.write_all(&together).unwrap();
    for request in requests {
        assert_eq!(read_message(&mut client), request);
    }
}

#[test]
fn takes_a_request_byte_by_byte() {
    let bench = Bench::start(echo(), |_| {});
    let mut client = bench.client();
    for byte in message(b"slowly") {
        client.write_all(&[byte]).unwrap();
        client.flush().unwrap();
    }
    assert_eq!(read_message(&mut client), "slowly");
}

#[test]
fn takes_the_largest_request_and_a_small_one_after_it() {
    let largest = Settings::DEFAULT_MAX_REQUEST_SIZE;
    let bench = Bench::start(echo(), |settings| settings.max_unauthenticated_request_size = largest);
    let mut client = bench.client();
    let largest = "x".repeat(largest - 8);
    assert!(ask(&mut client, &largest) == largest);
    assert_eq!(ask(&mut client, "small"), "small");
}

#[test]
fn answers_a_client_that_has_said_all_it_will() {
    let bench = Bench::start(echo(), |_| {});
    let mut client = bench.client();
    client.write_all(&message(b"last words")).unwrap();
    client.conn.send_close_notify();
    client.flush().unwrap();
    half_close(&client.sock);
    assert_eq!(read_message(&mut client), "last words");
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}

#[test]
fn closes_after_the_answer_if_the_service_says_so() {
    let bench = Bench::start(Arc::new(Answering(|_: &[u8]| (message(b"farewell"), After::Close))), |_| {});
    let mut client = bench.client();
    assert_eq!(ask(&mut client, "x"), "farewell");
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop(client);
    eventually(|| bench.running.connections() == 0);
}

#[test]
fn serves_all_the_sockets_handed_over() {
    let sockets: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    sockets[1].set_nonblocking(true).unwrap();
    let server = Server::adopt(sockets, &Settings::default()).unwrap();
    let addresses = server.local_addrs();
    assert_eq!(addresses.len(), 3);
    let mut bench = Bench::start(echo(), |_| {});
    let running = server.run(Arc::clone(&bench.tls.config), echo()).unwrap();
    for address in addresses {
        bench.address = address;
        assert_eq!(ask(&mut bench.client(), "x"), "x");
    }
    assert_eq!(running.stop(), 0);
}

#[test]
fn listens_on_wildcards_and_ipv6_and_stops_there() {
    for addr in ["0.0.0.0:0", "[::]:0", "[::1]:0"] {
        let settings = Settings { addr: addr.parse().unwrap(), ..Settings::default() };
        let Ok(server) = Server::bind(&settings) else {
            continue; // A machine without IPv6.
        };
        let port = server.local_addrs()[0].port();
        let mut bench = Bench::start(echo(), |_| {});
        let running = server.run(Arc::clone(&bench.tls.config), echo()).unwrap();
        bench.address = if addr.contains("::1") {
            format!("[::1]:{port}").parse().unwrap()
        } else {
            format!("127.0.0.1:{port}").parse().unwrap()
        };
        assert_eq!(ask(&mut bench.client(), "x"), "x");
        assert_eq!(running.stop(), 0);
        assert!(std::net::TcpStream::connect(bench.address).is_err());
    }
}

#[test]
fn says_why_it_cannot_listen() {
    let bench = Bench::start(echo(), |_| {});
    let settings = Settings { addr: bench.address, ..Settings::default() };
    let error = Server::bind(&settings).err().unwrap();
    assert!(matches!(error, Error::Bind(..)));
    assert!(error.to_string().starts_with(&format!("cannot listen on {}: ", bench.address)));
    assert!(error.to_string().contains("\nhint: "));
}

#[test]
fn speaks_tls_1_2_only_when_configured() {
    const OLD: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
    let bench = Bench::start(echo(), |_| {});
    let error = bench.client_for("localhost", OLD).unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    let bench = Bench::start_with(echo(), TlsVersion::V1_2, |_| {});
    let mut client = bench.client_for("localhost", OLD).unwrap();
    assert_eq!(ask(&mut client, "old"), "old");
    assert_eq!(client.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
    let mut client = bench.client();
    assert_eq!(ask(&mut client, "new"), "new");
}

/// How the second handshake of a client went.
fn second_handshake(bench: &Bench, version: &'static rustls::SupportedProtocolVersion) -> rustls::HandshakeKind {
    let config = bench.client_config(&[version]);
    let kinds: Vec<_> = (0..2)
        .map(|_| {
            let name = "localhost".try_into().unwrap();
            let connection = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
            let mut client = rustls::StreamOwned::new(connection, bench.tcp());
            assert_eq!(ask(&mut client, "x"), "x");
            client.conn.handshake_kind().unwrap()
        })
        .collect();
    assert_eq!(kinds[0], rustls::HandshakeKind::Full);
    kinds[1]
}

#[test]
fn a_client_that_returns_resumes_its_session() {
    let bench = Bench::start_with(echo(), TlsVersion::V1_2, |_| {});
    for version in rustls::ALL_VERSIONS {
        assert_eq!(second_handshake(&bench, version), rustls::HandshakeKind::Resumed);
    }
}

/// A session that is resumed brings the certificate along without its being judged again, also when its end has come.
#[test]
fn no_session_is_resumed_where_certificates_are_judged() {
    let bench = Bench::start_asking(echo());
    for version in rustls::ALL_VERSIONS {
        assert_eq!(second_handshake(&bench, version), rustls::HandshakeKind::Full);
    }
}

#[test]
fn the_defaults_are_those_of_the_settings() {
    let settings = Settings::default();
    assert_eq!(settings.addr.to_string(), "127.0.0.1:5696");
    assert_eq!(settings.max_connections, 1024);
    assert_eq!(settings.max_request_size, 1 << 20);
    assert_eq!(TlsVersion::default(), tls::TlsVersion::V1_3);
}
