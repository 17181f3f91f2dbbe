//! Whose certificate the server shows.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use cascade_hsm_bridge::server::tls::{Error, Identity, Origin, Settings, TlsVersion, check, load};
use rcgen::{CertificateParams, KeyPair};

use crate::harness::*;

const LISTENING: &[std::net::SocketAddr] = &[cascade_hsm_bridge::server::Settings::DEFAULT_ADDR];

fn in_dir(dir: &Path) -> Settings {
    Settings { identity: None, min_version: TlsVersion::V1_3, names: vec![], clients: None, state_dir: dir.into() }
}

fn configured(cert_path: &Path, key_path: &Path) -> Settings {
    let identity = Identity { cert_path: cert_path.into(), key_path: key_path.into() };
    Settings { identity: Some(identity), ..in_dir(Path::new("/nowhere")) }
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A certificate for `localhost` and its key, in files.
fn pem_files(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let (cert_path, key_path) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    fs::write(&cert_path, certificate.pem()).unwrap();
    fs::write(&key_path, key.serialize_pem()).unwrap();
    fs::set_permissions(&key_path, fs::Permissions::from_mode(0o600)).unwrap();
    (cert_path, key_path)
}

#[test]
fn the_self_signed_certificate_serves_as_its_own_trust_anchor() {
    let bench = Bench::start(echo(), |_| {});
    for name in ["localhost", "127.0.0.1"] {
        let mut client = bench.client_for(name, &[&rustls::version::TLS13]).unwrap();
        assert_eq!(ask(&mut client, name), name);
    }
    let error = bench.client_for("elsewhere.example", &[&rustls::version::TLS13]).unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn openssl_accepts_the_self_signed_certificate() {
    let bench = Bench::start(echo(), |_| {});
    let path = bench.tls.certificate.path.as_ref().unwrap().to_str().unwrap();
    openssl(&["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", path, path]);
    let address = bench.address.to_string();
    for name in [["-verify_hostname", "localhost"], ["-verify_ip", "127.0.0.1"]] {
        let client = ["s_client", "-connect", &address, "-CAfile", path, "-x509_strict", "-verify_return_error"];
        assert!(openssl(&[&client[..], &name[..]].concat()).contains("Verify return code: 0 (ok)"));
    }
    let printed = openssl(&["x509", "-in", path, "-noout", "-fingerprint", "-sha256"]);
    assert!(printed.trim().ends_with(&format!("={}", bench.tls.certificate.fingerprint)), "{printed}");
    let text = openssl(&["x509", "-in", path, "-noout", "-text"]);
    for part in ["prime256v1", "CA:FALSE", "TLS Web Server Authentication", "CN = cascade-hsm-bridge"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

#[test]
fn makes_a_certificate_once_and_keeps_it() {
    let dir = Scratch::new("tls");
    let state_dir = dir.path().join("not/there/yet");
    let settings = in_dir(&state_dir);
    assert_eq!(check(&settings, LISTENING).unwrap(), None);
    assert!(!state_dir.exists());
    let made = load(&settings, LISTENING).unwrap().certificate;
    assert_eq!((made.origin, made.path.as_deref()), (Origin::Made, Some(&*state_dir.join("server.crt"))));
    let kept = load(&settings, LISTENING).unwrap().certificate;
    assert_eq!((kept.origin, &kept.fingerprint), (Origin::Kept, &made.fingerprint));
    assert_eq!(check(&settings, LISTENING).unwrap(), Some(kept));
    let mode = |name| fs::metadata(state_dir.join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("server.key"), mode("server.crt")), (0o600, 0o644));
    assert_eq!(fs::read_dir(&state_dir).unwrap().count(), 2);
}

#[test]
fn finishes_what_a_crash_left_half_done() {
    let dir = Scratch::new("tls");
    let first = load(&in_dir(dir.path()), LISTENING).unwrap().certificate;
    let key = fs::read(dir.path().join("server.key")).unwrap();
    fs::remove_file(dir.path().join("server.crt")).unwrap();
    let second = load(&in_dir(dir.path()), LISTENING).unwrap().certificate;
    assert_eq!(second.origin, Origin::Made);
    assert_ne!(second.fingerprint, first.fingerprint);
    assert_eq!(fs::read(dir.path().join("server.key")).unwrap(), key);
}

#[test]
fn all_who_start_at_once_end_up_with_one_certificate() {
    let dir = Scratch::new("tls");
    let fingerprints: Vec<String> = thread::scope(|scope| {
        let starts: Vec<_> =
            (0..8).map(|_| scope.spawn(|| load(&in_dir(dir.path()), LISTENING).unwrap().certificate)).collect();
        starts.into_iter().map(|start| start.join().unwrap().fingerprint).collect()
    });
    assert!(fingerprints.iter().all(|fingerprint| *fingerprint == fingerprints[0]));
    assert_eq!(load(&in_dir(dir.path()), LISTENING).unwrap().certificate.fingerprint, fingerprints[0]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn serves_with_a_certificate_in_memory_where_none_can_be_kept() {
    let dir = Scratch::new("tls");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let certificates: Vec<_> =
        (0..2).map(|_| load(&in_dir(&file.join("state")), LISTENING).unwrap().certificate).collect();
    assert_eq!((certificates[0].origin, &certificates[0].path), (Origin::Unkept, &None));
    assert_ne!(certificates[0].fingerprint, certificates[1].fingerprint);
}

#[test]
fn does_not_replace_a_certificate_whose_key_is_lost_or_another() {
    let dir = Scratch::new("tls");
    load(&in_dir(dir.path()), LISTENING).unwrap();
    let (_, other_key) = pem_files(dir.path(), "other");
    fs::copy(&other_key, dir.path().join("server.key")).unwrap();
    let error = load(&in_dir(dir.path()), LISTENING).unwrap_err();
    let Error::Kept(_, inner) = &error else { panic!("{error}") };
    assert!(matches!(**inner, Error::Mismatch(..)) && error.to_string().contains("\nhint: to have a new pair made"));
    fs::remove_file(dir.path().join("server.key")).unwrap();
    fs::create_dir(dir.path().join("server.key")).unwrap();
    let error = load(&in_dir(dir.path()), LISTENING).unwrap_err();
    assert!(error.to_string().contains("\nhint: let the bridge's user read it; or, to have"), "{error}");
    fs::remove_dir(dir.path().join("server.key")).unwrap();
    let error = load(&in_dir(dir.path()), LISTENING).unwrap_err();
    assert!(matches!(error, Error::KeyLost(..)) && error.to_string().contains("\nhint: "), "{error}");
}

#[test]
fn serves_with_every_usual_kind_of_key_and_pem() {
    let dir = Scratch::new("tls");
    for (number, kind) in [
        &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"][..],
        &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
        &["ed25519"],
        &["rsa:2048"],
    ]
    .into_iter()
    .enumerate()
    {
        let path = |ending| dir.path().join(format!("{number}.{ending}")).to_str().unwrap().to_owned();
        let (cert_path, key_path, old_path) = (path("crt"), path("key"), path("old"));
        let request = ["req", "-x509", "-nodes", "-subj", "/CN=x", "-out", &cert_path, "-keyout", &key_path, "-newkey"];
        openssl(&[&request[..], kind].concat());
        if kind[0] != "ed25519" {
            // PKCS#1 or SEC 1.
            openssl(&["pkey", "-traditional", "-in", &key_path, "-out", &old_path]);
            load(&configured(Path::new(&cert_path), Path::new(&old_path)), LISTENING).unwrap();
        }
        let tls = load(&configured(Path::new(&cert_path), Path::new(&key_path)), LISTENING).unwrap();
        assert_eq!((tls.certificate.origin, tls.certificate.path), (Origin::Configured, Some(cert_path.into())));
    }
}

#[test]
fn shows_the_configured_certificate_with_its_issuers() {
    let dir = Scratch::new("tls");
    let (cert_path, key_path) = pem_files(dir.path(), "own");
    let (issuer_path, _) = pem_files(dir.path(), "issuer");
    let mut file = fs::OpenOptions::new().append(true).open(&cert_path).unwrap();
    file.write_all(&fs::read(issuer_path).unwrap()).unwrap();
    let mut bench = Bench::start(echo(), |_| {});
    let server = cascade_hsm_bridge::server::Server::bind(&cascade_hsm_bridge::server::Settings {
        addr: "127.0.0.1:0".parse().unwrap(),
        ..Default::default()
    });
    let server = server.unwrap();
    bench.address = server.local_addrs()[0];
    bench.tls = load(&configured(&cert_path, &key_path), LISTENING).unwrap();
    let running = server.run(Arc::clone(&bench.tls.config), echo()).unwrap();
    let client = bench.client();
    assert_eq!(client.conn.peer_certificates().unwrap().len(), 2);
    running.stop();
}

#[test]
fn says_what_is_wrong_with_the_files() {
    let dir = Scratch::new("tls");
    let (cert, key) = pem_files(dir.path(), "good");
    let (_, other_key) = pem_files(dir.path(), "other");
    let missing = dir.path().join("missing.pem");
    let empty = dir.path().join("empty.pem");
    fs::write(&empty, "no PEM here\n").unwrap();
    let broken = dir.path().join("broken.pem");
    fs::write(&broken, "-----BEGIN CERTIFICATE-----\n?!?\n-----END CERTIFICATE-----\n").unwrap();
    let not_der = dir.path().join("not-der.pem");
    fs::write(&not_der, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let not_a_key = dir.path().join("not-a.key");
    fs::write(&not_a_key, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    let encrypted = dir.path().join("encrypted.key");
    let (key_text, encrypted_text) = (key.to_str().unwrap(), encrypted.to_str().unwrap());
    openssl(&["pkcs8", "-topk8", "-in", key_text, "-out", encrypted_text, "-passout", "pass:secret"]);
    let old_encrypted = dir.path().join("old-encrypted.key");
    let old_text = old_encrypted.to_str().unwrap();
    openssl(&["ec", "-in", key_text, "-aes128", "-passout", "pass:secret", "-out", old_text]);

    for (cert_path, key_path, wanted) in [
        (&missing, &key, "cannot read CERT: No such file or directory"),
        (&cert, &missing, "cannot read KEY: No such file or directory"),
        (&empty, &key, "there is no certificate in CERT"),
        (&key, &cert, "there is no certificate in CERT\nhint: are cert-path and key-path exchanged?"),
        (&cert, &empty, "there is no private key in KEY"),
        (&cert, &cert, "there is no private key in KEY\nhint: are cert-path and key-path exchanged?"),
        (&broken, &key, "CERT is not sound PEM: "),
        (&not_der, &key, "cannot use the certificate in CERT: "),
        (&cert, &not_a_key, "cannot use the private key in KEY: "),
        (&cert, &encrypted, "the private key in KEY is encrypted\nhint: "),
        (&cert, &old_encrypted, "the private key in KEY is encrypted\nhint: "),
        (&cert, &other_key, "the certificate in CERT is not that of the key in KEY"),
    ] {
        let settings = configured(cert_path, key_path);
        let wanted = wanted.replace("CERT", cert_path.to_str().unwrap()).replace("KEY", key_path.to_str().unwrap());
        let error = load(&settings, LISTENING).unwrap_err().to_string();
        let (key, what) = error.split_once(": ").unwrap();
        assert!(key.starts_with("server.identity"), "{error}");
        assert!(what.starts_with(&wanted), "{error:?} is not {wanted:?}");
        assert_eq!(check(&settings, LISTENING).unwrap_err().to_string(), error);
    }
    let both = load(&configured(&missing, &empty), LISTENING).unwrap_err().to_string();
    let keys: Vec<_> = both.lines().map(|line| line.split_once(": ").unwrap().0).collect();
    assert_eq!(keys, ["server.identity.cert-path", "server.identity.key-path"]);
    assert_eq!(check(&configured(&cert, &key), LISTENING).unwrap().unwrap().origin, Origin::Configured);
}
