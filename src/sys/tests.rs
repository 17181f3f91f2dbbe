//! What the system calls behind these functions do.
#![forbid(unsafe_code)]

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;

use super::*;

#[test]
fn finds_users_and_groups_by_name_and_number() {
    let root = user("root").unwrap().unwrap();
    assert_eq!((root.uid, root.gid), (0, Some(0)));
    assert_eq!(user("0").unwrap().unwrap(), root);
    assert_eq!(group("root").unwrap(), Some(0));
    assert_eq!(group("0").unwrap(), Some(0));
}

#[test]
fn takes_numbers_that_have_no_entry() {
    assert_eq!(user("4000111222").unwrap(), Some(User { name: None, uid: 4_000_111_222, gid: None }));
    assert_eq!(group("4000111222").unwrap(), Some(4_000_111_222));
}

#[test]
fn knows_no_user_or_group_that_is_not_there() {
    assert_eq!(user("no such user").unwrap(), None);
    assert_eq!(group("no such group").unwrap(), None);
    assert_eq!(user("-1").unwrap(), None);
    assert_eq!(user("4294967295").unwrap(), None);
    assert!(user("a\0b").is_err());
}

#[test]
fn takes_over_a_tcp_listener() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    assert_eq!(listener(socket.into()).unwrap().local_addr().unwrap(), address);
}

#[test]
fn refuses_sockets_that_are_no_tcp_listener() {
    let connected = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(connected.local_addr().unwrap()).unwrap();
    assert!(listener(connected.into()).unwrap_err().to_string().ends_with("does not listen"));
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(listener(udp.into()).unwrap_err().to_string().ends_with("is not a TCP socket"));
    let path = std::env::temp_dir().join(format!("chb-sys-{}.sock", std::process::id()));
    let unix = UnixListener::bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(listener(unix.into()).unwrap_err().to_string().ends_with("is not a TCP socket"));
    assert!(listener(File::open("/dev/null").unwrap().into()).is_err());
}

#[test]
fn locks_a_file_for_one_at_a_time() {
    let path = std::env::temp_dir().join(format!("chb-sys-{}.lock", std::process::id()));
    let open = || File::options().create(true).append(true).open(&path).unwrap();
    let (one, other) = (open(), open());
    assert!(lock(&one).unwrap());
    assert!(!lock(&other).unwrap());
    let copy = one.try_clone().unwrap();
    drop(one);
    assert!(!lock(&other).unwrap());
    drop(copy);
    assert!(lock(&other).unwrap());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn knows_where_files_can_be_made() {
    assert!(may(&std::env::temp_dir(), May::Fill).is_ok());
    assert!(may(Path::new("/proc"), May::Fill).is_err());
    assert_eq!(may(Path::new("/nonexistent"), May::Fill).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(may(&std::env::current_exe().unwrap(), May::Fill).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    assert!(may(Path::new("a\0b"), May::Read).is_err());
}

#[test]
fn leaves_enough_descriptors_as_they_are() {
    let allowed = allow_descriptors(0).unwrap();
    assert_eq!(allow_descriptors(1).unwrap(), allowed);
}
