//! Peers that end their connections rudely, or do not speak what is spoken there.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};

use crate::stage::{Stage, eventually, is_closed, query};
use crate::support::bridge::Options;
use crate::support::client::client_hello;
use crate::support::message::Item;
use crate::support::tags::operation;

#[test]
fn garbage_and_sudden_ends_at_every_stage_cost_their_own_connection() {
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

/// How often each stage is reset.
const RESETS: usize = 20;

/// Connects so often, sends what is given in hexadecimal, and resets the connection: a socket of which nothing lingers does that also
/// where it has read all that there was. The pause is for the bridge to take up the connection.
const RESET: &str = "
import socket, struct, sys, time
host, port, times, said = sys.argv[1:]
for _ in range(int(times)):
    peer = socket.create_connection((host, int(port)))
    peer.sendall(bytes.fromhex(said))
    time.sleep(0.02)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    peer.close()
";

/// Resets connections of which the bridge has heard this, and said nothing to.
fn reset_after(stage: &Stage, said: &[u8]) {
    let (address, said) = (stage.bridge.address, said.iter().map(|byte| format!("{byte:02x}")).collect());
    let arguments = [address.ip().to_string(), address.port().to_string(), RESETS.to_string(), said];
    let output = Command::new("python3").args(["-c", RESET]).args(arguments).output().expect("python3 (make deps)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until there is something to read. A socket that is dropped with that unread is not closed, but reset.
fn await_answer(socket: &TcpStream) {
    assert_eq!(socket.peek(&mut [0]).unwrap(), 1);
}

#[test]
fn resets_at_every_stage_cost_their_own_connection() {
    let mut stage = Stage::set("");
    let hello = client_hello();
    stage.withstands(|stage| {
        let request = stage.proven().request(vec![Item::new(operation::LOCATE, vec![])]).encode();
        // The system tells of some that they ended before the bridge took them up.
        let early = ["handshake: Connection reset by peer", "a connection ended before it was accepted"];
        let ended = || early.map(|why| stage.ended(why));
        for said in [&[], &hello[..5], &hello[..hello.len() / 2]] {
            let before = ended();
            reset_after(stage, said);
            let all = before.iter().sum::<usize>() + RESETS;
            eventually("they end", || ended().iter().sum::<usize>() >= all);
            assert!(ended()[0] > before[0], "none was taken up");
        }
        let say_hello = |_| {
            let mut socket = stage.tcp();
            socket.write_all(&hello).unwrap();
            await_answer(&socket);
        };
        let before = stage.ended(early[0]);
        (0..RESETS).for_each(say_hello);
        eventually("they end", || stage.ended(early[0]) >= before + RESETS);
        let late = "connection lost: Connection reset by peer";
        for part in [0, 4, 8, request.len() / 2, request.len()] {
            let before = stage.ended(late);
            for _ in 0..RESETS {
                let mut client = stage.stranger();
                // Half a record, then half a header of TTLV, all of it and half of the body. Keys for a later session are what is not
                // read; of the last it is the answer.
                match part {
                    0 => client.socket().write_all(&[23, 3, 3, 0x40, 0, 1, 2, 3]).unwrap(),
                    _ => client.send(&request[..part]),
                }
                if part == request.len() {
                    client.receive().expect("an answer");
                    client.send(&request);
                }
                await_answer(client.socket());
            }
            eventually("they end", || stage.ended(late) >= before + RESETS);
        }
    });
}

#[test]
fn renegotiation_costs_its_own_connection() {
    let tables = "[server.tls]\nmin-version = \"1.2\"".to_owned();
    let mut stage = Stage::with(Options { tables, ..Options::default() });
    stage.withstands(|stage| {
        for _ in 0..20 {
            let mut client = Command::new("openssl");
            client.args(["s_client", "-tls1_2", "-connect", &stage.bridge.address.to_string()]);
            client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut client = client.spawn().expect("openssl is installed (make deps)");
            // It would take the end of its input for a wish to leave, so that stays open until it has left.
            let mut keys = client.stdin.take().unwrap();
            keys.write_all(b"R\n").unwrap();
            let output = client.wait_with_output().unwrap();
            let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(said.contains("TLSv1.2") && why.contains("RENEGOTIATING"), "{said}{why}");
            assert!(!output.status.success() && why.contains("no renegotiation"), "{said}{why}");
        }
    });
}
