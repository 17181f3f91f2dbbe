//! The certificate that the bridge makes for itself: once, so that clients can pin it.
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use zeroize::Zeroizing;

use super::identity::{self, Pair};
use super::tls::Error;

const CERTIFICATE: &str = "server.crt";
const KEY: &str = "server.key";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Ten years: clients pin it, so its end protects no one, and to replace it means to visit every client.
const VALIDITY: Duration = Duration::from_secs(3652 * DAY.as_secs());

/// 2026-01-01, in seconds since 1970. A machine whose clock is before this has lost it, and what it makes has to be valid still
/// when the clock is right again.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);

/// 9900-01-01. Certificates cannot tell of the year 10000.
const LATEST: Duration = Duration::from_secs(250_246_627_200);

/// Where the certificate and its key are kept in `dir`.
pub(super) fn paths(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join(CERTIFICATE), dir.join(KEY))
}

/// What a self-signed certificate is to be for: `localhost`, this host's name, the addresses listened on, and `configured`.
pub(super) fn names(configured: &[String], listening: &[SocketAddr]) -> Result<Vec<ServerName<'static>>, Error> {
    let mut names = Vec::new();
    let mut add = |name| {
        if !names.contains(&name) {
            names.push(name);
        }
    };
    add(host("localhost")?);
    for address in listening {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) if ip.is_unspecified() => add(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => {
                // Linux serves IPv4 on it as well.
                add(Ipv6Addr::LOCALHOST.into());
                add(Ipv4Addr::LOCALHOST.into());
            }
            ip => add(ip.into()),
        }
    }
    // Whatever this machine is called need not be a proper host name.
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if let Ok(name) = host(hostname.trim()) {
        add(name);
    }
    for name in configured {
        add(host(name)?);
    }
    Ok(names)
}

/// Whether the server is reached by addresses that nobody has told a self-signed certificate of.
pub(super) fn lacks_names(configured: &[String], listening: &[SocketAddr]) -> bool {
    configured.is_empty() && listening.iter().any(|address| address.ip().to_canonical().is_unspecified())
}

fn host(name: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(name.to_owned()).map_err(|_| Error::Name(name.to_owned()))
}

/// The kept certificate with its key, if there is one.
pub(super) fn kept(dir: &Path) -> Result<Option<Pair>, Error> {
    let (cert_path, key_path) = paths(dir);
    match fs::metadata(&cert_path) {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(Error::Kept(dir.into(), Box::new(Error::Read(cert_path, error)))),
    }
    // The key is written first: if it is not there now, then it was taken away.
    match identity::read(&cert_path, &key_path) {
        Err(Error::Read(path, error)) if path == key_path && error.kind() == ErrorKind::NotFound => {
            Err(Error::KeyLost(cert_path, key_path))
        }
        read => read.map(Some).map_err(|error| Error::Kept(dir.into(), Box::new(error))),
    }
}

/// Makes a certificate and key that are in memory only.
pub(super) fn make(names: &[ServerName<'_>]) -> Result<Pair, Error> {
    let key = KeyPair::generate().map_err(unmade)?;
    let certificate = certify(&key, names, now())?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Pair::new(vec![CertificateDer::clone(certificate.der())], key, Path::new(CERTIFICATE), Path::new(KEY))
}

/// Makes a certificate and key and keeps them in `dir`; the inner error says why they cannot be kept there.
///
/// Each file appears whole or not at all, the key first; a key without certificate, left by a crash in between, is used.
/// Should several processes do this at once, then all of them end up with the files that were first.
pub(super) fn make_and_keep(dir: &Path, names: &[ServerName<'_>]) -> Result<io::Result<Pair>, Error> {
    let (cert_path, key_path) = paths(dir);
    if let Err(error) = make_dir(dir) {
        return Ok(Err(error));
    }
    if !key_path.exists() {
        let key = KeyPair::generate().map_err(unmade)?;
        if let Err(error) = keep(dir, KEY, 0o600, Zeroizing::new(key.serialize_pem()).as_bytes()) {
            return Ok(Err(error));
        }
    }
    let unreadable = |error| Error::Kept(dir.into(), Box::new(Error::Read(key_path.clone(), error)));
    let pem = fs::read_to_string(&key_path).map_err(unreadable)?;
    let key = KeyPair::from_pem(&Zeroizing::new(pem))
        .map_err(|error| Error::Kept(dir.into(), Box::new(Error::Make(format!("{}: {error}", key_path.display())))))?;
    if let Err(error) = keep(dir, CERTIFICATE, 0o644, certify(&key, names, now())?.pem().as_bytes()) {
        return Ok(Err(error));
    }
    identity::read(&cert_path, &key_path).map(Ok)
}

/// Makes `dir` unless it is there.
fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    // As for the certificate in it.
    fs::set_permissions(dir, Permissions::from_mode(0o755))
}

/// Certifies `key`; `now` is the time since 1970.
fn certify(key: &KeyPair, names: &[ServerName<'_>], now: Duration) -> Result<rcgen::Certificate, Error> {
    let now = now.min(LATEST);
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "cascade-hsm-bridge");
    params.subject_alt_names = names.iter().map(alternative_name).collect::<Result<_, _>>()?;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    // A day, for clients whose clocks are behind.
    params.not_before = epoch + now.saturating_sub(DAY);
    params.not_after = epoch + now.max(EARLIEST).saturating_add(VALIDITY);
    params.serial_number = Some(serial_number()?.to_vec().into());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Not a CA: TLS libraries refuse a CA's certificate from a server, and accept this one as its own trust anchor. An empty
    // sequence, as DER leaves defaults out.
    let mut basic_constraints = CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 0x00]);
    basic_constraints.set_criticality(true);
    params.custom_extensions = vec![basic_constraints];
    params.self_signed(key).map_err(unmade)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn alternative_name(name: &ServerName<'_>) -> Result<SanType, Error> {
    match name {
        ServerName::IpAddress(ip) => Ok(SanType::IpAddress((*ip).into())),
        name => Ia5String::try_from(name.to_str().into_owned()).map(SanType::DnsName).map_err(unmade),
    }
}

fn serial_number() -> Result<[u8; 16], Error> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| Error::Make("the system has no random numbers".to_owned()))?;
    Ok(serial)
}

fn unmade(error: rcgen::Error) -> Error {
    Error::Make(error.to_string())
}

/// Writes the file `name` in `dir`, unless there is one already.
fn keep(dir: &Path, name: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
    let tag = serial_number().map_err(|error| io::Error::other(error.to_string()))?;
    let temporary = dir.join(format!(".{name}.{:032x}", u128::from_be_bytes(tag)));
    let kept = write_new(&temporary, mode, contents).and_then(|()| publish(&temporary, &dir.join(name)));
    let _ = fs::remove_file(&temporary);
    kept.and_then(|()| File::open(dir)?.sync_all())
}

fn write_new(path: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
    // The mode is there before the first byte.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // Whatever the umask took away, clients' operators are to read the certificate.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(contents)?;
    file.sync_all()
}

/// Gives a finished file its name, which only one of several processes can do: the others find it taken.
fn publish(temporary: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(temporary, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        // A file system without hard links.
        Err(_) => fs::rename(temporary, path),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(names: &[ServerName<'_>]) -> Vec<String> {
        names.iter().map(|name| name.to_str().into_owned()).collect()
    }

    #[test]
    fn names_the_host_the_addresses_and_what_is_configured_once_each() {
        let listening = ["10.1.2.3:5696".parse().unwrap(), "[fd00::7]:5696".parse().unwrap()];
        let configured = ["hsm.example.org".to_owned(), "10.1.2.3".to_owned(), "LOCALHOST".to_owned()];
        let names = text(&names(&configured, &listening).unwrap());
        for name in ["localhost", "10.1.2.3", "fd00::7", "hsm.example.org"] {
            assert_eq!(names.iter().filter(|found| *found == name).count(), 1, "{name} in {names:?}");
        }
        assert!(!names.contains(&"127.0.0.1".to_owned()));
    }

    #[test]
    fn a_wildcard_address_stands_for_the_loopback_ones() {
        let names = text(&names(&[], &["[::]:5696".parse().unwrap()]).unwrap());
        assert!(names.contains(&"::1".to_owned()) && names.contains(&"127.0.0.1".to_owned()));
        assert!(!names.contains(&"::".to_owned()));
    }

    #[test]
    fn names_have_to_be_told_where_every_address_is_listened_on() {
        let all = ["0.0.0.0:5696".parse().unwrap()];
        assert!(lacks_names(&[], &all) && lacks_names(&[], &["[::]:5696".parse().unwrap()]));
        assert!(!lacks_names(&["hsm.example.org".to_owned()], &all));
        assert!(!lacks_names(&[], &["192.0.2.1:5696".parse().unwrap()]));
    }

    #[test]
    fn refuses_a_configured_name_that_is_none() {
        for name in ["", "two words", "*.example.org", "hsm:5696", "\u{e9}"] {
            assert!(matches!(names(&[name.to_owned()], &[]), Err(Error::Name(bad)) if bad == name));
        }
    }

    #[test]
    fn is_valid_today_whatever_the_clock_says() {
        let names = names(&[], &[]).unwrap();
        for now in [Duration::ZERO, now(), Duration::MAX] {
            let key = KeyPair::generate().unwrap();
            let certificate = certify(&key, &names, now).unwrap();
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let pair = Pair::new(vec![certificate.der().clone()], key, Path::new("c"), Path::new("k")).unwrap();
            // The clock that is ahead makes what is not valid yet: that is all there is to say.
            let remarks = identity::remarks(&pair, Path::new("/nowhere"));
            assert_eq!(remarks.is_empty(), now != Duration::MAX, "{remarks:?}");
            assert!(names.iter().all(|name| identity::covers(&pair, name)));
        }
    }

    #[test]
    fn no_two_certificates_are_alike() {
        let names = names(&[], &[]).unwrap();
        let key = KeyPair::generate().unwrap();
        let serials: Vec<_> = (0..2).map(|_| certify(&key, &names, now()).unwrap().der().to_vec()).collect();
        assert_ne!(serials[0], serials[1]);
    }
}
