//! The port: free, or whose.
#![forbid(unsafe_code)]

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use super::report::{Line, Report};
use crate::server::{Error, Settings};
use crate::sys;

/// Whether the bridge could listen where it is to, or does so already.
pub fn look(settings: &Settings, report: &mut Report<'_>) {
    let address = settings.addr;
    let line = match TcpListener::bind(address) {
        Ok(_) if address.port() == 0 => Line::ok("port", format!("any free one of {}", address.ip())),
        Ok(_) => Line::ok("port", format!("{address} is free")),
        Err(why) if why.kind() == ErrorKind::AddrInUse => in_use(address),
        Err(why) => {
            Line::fail("port", Error::Bind(address, why), "server.addr is an address of this machine, and a port")
        }
    };
    report.say(line.with("address", address.to_string()));
}

fn in_use(address: SocketAddr) -> Line {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let listeners: Vec<_> = tables.iter().flat_map(|table| listeners(table)).collect();
    let Some(listener) = listeners.iter().find(|listener| listener.is_in_the_way_of(address)) else {
        return Line::fail("port", format!("{address} is in use"), "server.addr names another one");
    };
    let user = sys::user_name(listener.uid);
    match holder(listener.inode) {
        Some((pid, name)) if is_ours(&name) => {
            Line::ok("port", format!("{address} is used by the running bridge, process {pid} of user {user}"))
        }
        // Sockets that it opens for others, until they are started.
        Some((1, name)) => Line::ok("port", format!("{address} is held by the service manager ({name})"))
            .hint("it is the bridge's if its socket unit is for the bridge"),
        Some((pid, name)) => Line::fail(
            "port",
            format!("{address} is used by {name}, process {pid} of user {user}"),
            "stop that program, or name another port in server.addr",
        ),
        None => Line::warn("port", format!("{address} is used by a process of user {user}"))
            .hint("only root can see whether that is the running bridge"),
    }
}

/// What a listening socket is told by in /proc/net/tcp.
#[derive(Debug, PartialEq, Eq)]
struct Listener {
    address: SocketAddr,
    uid: u32,
    inode: u64,
}

impl Listener {
    /// Whether it keeps others from `wanted`: one of the two may be for every address.
    fn is_in_the_way_of(&self, wanted: SocketAddr) -> bool {
        let (there, wanted_ip) = (self.address.ip().to_canonical(), wanted.ip().to_canonical());
        self.address.port() == wanted.port()
            && (there == wanted_ip || there.is_unspecified() || wanted_ip.is_unspecified())
    }
}

/// The listening sockets of a table as proc(5) describes it.
fn listeners(table: &str) -> Vec<Listener> {
    const LISTEN: &str = "0A";
    let listener = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, LISTEN, _, _, _, uid, _, inode, ..] = fields.as_slice() else { return None };
        Some(Listener { address: socket_address(local)?, uid: uid.parse().ok()?, inode: inode.parse().ok()? })
    };
    table.lines().filter_map(listener).collect()
}

/// Address and port in hexadecimal, the address as words in this machine's order of bytes.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let digits = ip.as_bytes().chunks(8).map(|word| std::str::from_utf8(word).ok());
    let words =
        digits.map(|word| Some(u32::from_str_radix(word?, 16).ok()?.to_ne_bytes())).collect::<Option<Vec<_>>>()?;
    let ip = match words.as_slice() {
        [word] => IpAddr::from(Ipv4Addr::from(*word)),
        words @ [_, _, _, _] => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// The process that has the socket open, as far as this one may see.
fn holder(inode: u64) -> Option<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    let numbers = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: &u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd"));
        open.is_ok_and(|open| {
            open.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str()))
        })
    };
    // The service manager may hold what it has handed over too; who serves is the other one.
    let mut pids: Vec<u32> = numbers.filter(holds).collect();
    pids.sort_unstable();
    let pid = pids.last()?;
    Some((*pid, fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()))
}

/// Whether a process of this name is a bridge; the kernel keeps 15 bytes of it.
fn is_ours(name: &str) -> bool {
    const KEPT: usize = 15;
    env!("CARGO_PKG_NAME").get(..KEPT) == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_tables_of_sockets() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1640 00000000:0000 0A 00000000:00000000 00:00000000 00000000   107        0 4711 1 0\n   \
            1: 0100007F:1640 0100007F:9C40 01 00000000:00000000 00:00000000 00000000   107        0 4712 1 0\n";
        let address = SocketAddr::from(([127, 0, 0, 1], 5696));
        let found = listeners(table);
        if cfg!(target_endian = "little") {
            assert_eq!(found, [Listener { address, uid: 107, inode: 4711 }]);
        }
        let v6 = "0: 00000000000000000000000001000000:1640 0:0 0A 0:0 0:0 0 0 0 1 1";
        if cfg!(target_endian = "little") {
            assert_eq!(listeners(v6)[0].address, "[::1]:5696".parse().unwrap());
        }
        assert!(listeners("0: x:y 0:0 0A 0:0 0:0 0 0 0 1 1").is_empty());
    }

    #[test]
    fn a_socket_for_every_address_is_in_the_way_of_each() {
        let on = |address: &str| Listener { address: address.parse().unwrap(), uid: 0, inode: 0 };
        let wanted = "127.0.0.1:5696".parse().unwrap();
        assert!(on("127.0.0.1:5696").is_in_the_way_of(wanted) && on("0.0.0.0:5696").is_in_the_way_of(wanted));
        assert!(on("[::]:5696").is_in_the_way_of(wanted));
        assert!(!on("127.0.0.1:5697").is_in_the_way_of(wanted) && !on("127.0.0.2:5696").is_in_the_way_of(wanted));
    }

    #[test]
    fn finds_the_process_that_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tables = fs::read_to_string("/proc/net/tcp").unwrap();
        let found = listeners(&tables).into_iter().find(|found| found.address == address).unwrap();
        assert_eq!(holder(found.inode).unwrap().0, std::process::id());
    }
}
