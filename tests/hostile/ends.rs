//! Peers that end their connections rudely, or do not speak what is spoken there.

use std::io::Write;
use std::net::Shutdown;

use crate::stage::{Stage, client_hello, is_closed, query};

#[test]
fn resets_and_garbage_at_every_stage_cost_their_own_connection() {
    let mut stage = Stage::set("");
    stage.withstands(|stage| {
        let hello = client_hello();
        let request = query().encode();
        for round in 0..200 {
            let mut socket = stage.tcp();
            match round % 5 {
                0 => socket.write_all(&hello[..round % hello.len()]).unwrap(),
                1 => socket.write_all(&request).unwrap(),
                2 => socket.write_all(b"GET / HTTP/1.1\r\nHost: hsm\r\n\r\n").unwrap(),
                3 => drop(socket.write_all(&[&hello[..], &[0xff; 3000]].concat())),
                _ => drop(socket.shutdown(Shutdown::Write)),
            }
            if round % 2 == 0 {
                drop(socket);
            } else {
                // The bridge may have closed it already, and reset it: then there is nothing left to shut down.
                drop(socket.shutdown(Shutdown::Write));
                is_closed(&mut socket);
            }
        }
        for round in 0..100 {
            let mut client = stage.stranger();
            match round % 5 {
                // The handshake again, inside the connection: a ClientHello where KMIP is spoken, and in the clear.
                0 => client.send(&hello),
                1 => drop((&mut client.socket()).write_all(&hello)),
                2 => drop((&mut client.socket()).write_all(&[0x17; 100])),
                // The answer is on its way when the socket closes with unread data: a reset.
                3 => client.send(&request.repeat(20)),
                _ => client.send(&request[..round % request.len()]),
            }
        }
    });
}
