//! Peers that say nothing, or next to nothing.

use std::io::Write;
use std::net::TcpStream;
use std::thread;

use crate::stage::{Stage, client_hello, is_closed, query, trickle};
use crate::support::Client;
use crate::support::client::handshake;

#[test]
fn silent_peers_at_every_stage_end_and_disturb_nobody() {
    let mut stage = Stage::set("");
    stage.withstands(|stage| {
        let hello = client_hello();
        let request = query().encode();
        let mut sockets: Vec<TcpStream> = Vec::new();
        let mut clients: Vec<Client> = Vec::new();
        for _ in 0..10 {
            for part in [0, 3, 5, hello.len() / 2, hello.len()] {
                let mut socket = stage.tcp();
                socket.write_all(&hello[..part]).unwrap();
                sockets.push(socket);
            }
            for part in [0, 4, 8, request.len() / 2] {
                let mut client = stage.stranger();
                client.send(&request[..part]);
                clients.push(client);
            }
        }
        sockets.iter_mut().for_each(is_closed);
        clients.iter_mut().for_each(|client| is_closed(&mut client.socket()));
    });
}

#[test]
fn a_byte_at_a_time_stretches_no_deadline() {
    let mut stage = Stage::set("");
    stage.withstands(|stage| {
        thread::scope(|scope| {
            for _ in 0..4 {
                for begin in [vec![], vec![22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xf0]] {
                    scope.spawn(move || {
                        let mut socket = stage.tcp();
                        socket.write_all(&begin).unwrap();
                        trickle(&mut socket);
                    });
                }
                for begin in [&[][..], &[0x42, 0, 0x78, 1, 0, 0, 0x40, 0]] {
                    scope.spawn(move || {
                        let mut stream = handshake(&stage.bridge, rustls::ALL_VERSIONS).unwrap();
                        stream.write_all(begin).unwrap();
                        trickle(&mut stream);
                    });
                }
                // Half a TLS record of application data, and then its bytes one by one.
                scope.spawn(move || {
                    let client = stage.stranger();
                    let mut socket = client.socket();
                    socket.write_all(&[23, 3, 3, 0x40, 0]).unwrap();
                    trickle(&mut socket);
                });
            }
        });
    });
}
