//! What HUP has read anew: certificates, their issuers, lists of revoked ones and PINs, each in force at once, and the old one where the
//! new one is bad.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use support::bridge::Options;
use support::ca::{Ca, YEARS};
use support::scratch::Scratch;
use support::tags::{operation, reason};
use support::{Bridge, Client, Item, Token};

const NEW_PIN: &str = "pin-7719";
const PASSWORD: &str = "password-6105-of-the-signer";

/// The name that the certificates of the bridge are for.
const NAME: &str = "bridge.example";

fn locate() -> Item {
    Item::new(operation::LOCATE, vec![])
}

fn private_file(directory: &Scratch, name: &str, content: &str) -> PathBuf {
    let path = directory.file(name, content);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn pem(kind: &str, der: &[u8]) -> String {
    let mut command = std::process::Command::new("openssl");
    let file = Scratch::new("der");
    let path = file.file("in.der", der);
    let words: &[&str] = if kind == "key" { &["pkey"] } else { &["x509"] };
    let output = command.args(words).args(["-inform", "DER", "-in"]).arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A bridge with a certificate of the CA, in files of the directory.
struct Certified<'a> {
    ca: &'a Ca,
    directory: &'a Scratch,
}

impl Certified<'_> {
    /// Puts another certificate into the files. Its DER form.
    fn renew(&self, serial: u64) -> CertificateDer<'static> {
        self.renew_for(serial, YEARS)
    }

    /// The same for one that ends in so many days.
    fn renew_for(&self, serial: u64, days: i64) -> CertificateDer<'static> {
        let (certificate, key) = self.ca.certify_for("bridge", serial, days);
        self.directory.file("server.crt", pem("certificate", &certificate));
        private_file(self.directory, "server.key", &pem("key", key.secret_der()));
        certificate
    }

    fn table(&self) -> String {
        let file = |name: &str| self.directory.path().join(name);
        format!("[server.identity]\ncert-path = {:?}\nkey-path = {:?}\n", file("server.crt"), file("server.key"))
    }

    /// A client that trusts the CA, and shows what it is given; it remembers its TLS sessions.
    fn client(&self, identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots);
        Arc::new(match identity {
            Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => config.with_no_client_auth(),
        })
    }
}

fn login(token: &Token) -> Option<(&str, &str)> {
    Some((&token.label, &token.pin))
}

/// Whether a client gets in, and whether on a TLS session of before.
fn enters(connected: io::Result<Client>) -> Option<bool> {
    let mut client = connected.ok()?;
    let resumed = client.is_resumed();
    (!client.is_cut_off_at(locate())).then_some(resumed)
}

#[test]
fn a_new_certificate_is_shown_after_a_hangup_and_the_old_one_where_the_new_is_bad() {
    let (token, directory, ca) = (Token::create(), Scratch::new("hangup"), Ca::new());
    let certified = Certified { ca: &ca, directory: &directory };
    let first = certified.renew(1);
    let bridge = Bridge::start_with(&token, Options { tables: certified.table(), ..Options::default() });
    let shown = || {
        let mut client = Client::connect_with(&bridge, login(&token), &certified.client(None), NAME).unwrap();
        client.call(locate()).payload();
        client.shown().unwrap()
    };
    assert_eq!(shown(), first);
    let mut connected = Client::connect_with(&bridge, login(&token), &certified.client(None), NAME).unwrap();
    let second = certified.renew(2);
    assert_eq!(shown(), first, "before the hangup");
    bridge.hang_up();
    assert_eq!(shown(), second);
    // No certificate, one that is not the key's, and none at all.
    directory.file("server.crt", "nothing");
    bridge.hang_up();
    assert_eq!(shown(), second);
    directory.file("server.crt", pem("certificate", &first));
    bridge.hang_up();
    assert_eq!(shown(), second);
    fs::remove_file(directory.path().join("server.crt")).unwrap();
    bridge.hang_up();
    assert_eq!(shown(), second);
    assert_eq!(bridge.log().matches("the certificates that were in force stay so").count(), 3);
    connected.call(locate()).payload();
}

/// Options of a bridge that wants certificates of clients.
fn asking(certified: &Certified<'_>, ca_file: &Path, more: &str) -> Options {
    let tables =
        format!("[server.tls]\nclient-auth = \"required\"\nclient-ca = {ca_file:?}\n{more}\n{}", certified.table());
    Options { tables, ..Options::default() }
}

#[test]
fn a_new_ca_of_clients_counts_after_a_hangup_and_the_old_one_no_longer() {
    let (token, directory, ca) = (Token::create(), Scratch::new("hangup"), Ca::new());
    let certified = Certified { ca: &ca, directory: &directory };
    certified.renew(1);
    let (old, new) = (Ca::new(), Ca::new());
    let ca_file = directory.file("clients.pem", &old.pem);
    let bridge = Bridge::start_with(&token, asking(&certified, &ca_file, ""));
    let of = |ca: &Ca| certified.client(Some(ca.certify("one", 1)));
    let (of_old, of_new) = (of(&old), of(&new));
    let enters = |config| enters(Client::connect_with(&bridge, login(&token), config, NAME)).is_some();
    assert!(enters(&of_old) && !enters(&of_new));
    directory.file("clients.pem", &new.pem);
    bridge.hang_up();
    assert!(!enters(&of_old) && enters(&of_new));
    directory.file("clients.pem", "nothing");
    bridge.hang_up();
    assert!(!enters(&of_old) && enters(&of_new));
}

/// A ticket is as good as the certificate that it was given for: taken up without another look, it would outlive the revocation.
#[test]
fn a_revoked_client_does_not_get_in_on_a_tls_session_of_before() {
    let (token, directory, ca) = (Token::create(), Scratch::new("hangup"), Ca::new());
    let certified = Certified { ca: &ca, directory: &directory };
    certified.renew(1);
    let ca_file = directory.file("clients.pem", &ca.pem);
    let crl = directory.file("crl.pem", ca.revoke(99));
    let bridge = Bridge::start_with(&token, asking(&certified, &ca_file, &format!("crl = {crl:?}")));
    let (revoked, other) = (certified.client(Some(ca.certify("one", 7))), certified.client(Some(ca.certify("two", 8))));
    let enters = |config| enters(Client::connect_with(&bridge, login(&token), config, NAME));
    // Both remember their sessions.
    for config in [&revoked, &other] {
        assert_eq!(enters(config), Some(false));
        assert_eq!(enters(config), Some(false), "none is taken up again");
    }
    fs::write(&crl, ca.revoke(7)).unwrap();
    bridge.hang_up();
    assert_eq!(enters(&revoked), None);
    assert_eq!(enters(&revoked), None, "nor at a second try");
    assert_eq!(enters(&other), Some(false), "who is not revoked shows its certificate anew");
}

#[test]
fn a_new_pin_file_counts_after_a_hangup() {
    let (token, directory) = (Token::create(), Scratch::new("hangup"));
    let pin = private_file(&directory, "pin", &token.pin);
    let password = private_file(&directory, "password", PASSWORD);
    let tables = format!(
        "[[token]]\nname = {label:?}\npin-file = {pin:?}\n\
         [[client]]\nusername = \"signer\"\npassword-file = {password:?}\ntoken = {label:?}\n",
        label = token.label
    );
    let bridge = Bridge::start_with(&token, Options { tables, ..Options::default() });
    bridge.secrets.add(NEW_PIN);
    let mut signer = Client::connect_as(&bridge, Some(("signer", PASSWORD)));
    signer.call(locate()).payload();
    token.pkcs11_tool(&["--change-pin", "--new-pin", NEW_PIN]);
    private_file(&directory, "pin", NEW_PIN);
    bridge.hang_up();
    signer.call(locate()).payload();
    // From the file it has become the one in force.
    let by_pin = |pin: &str| Client::connect_as(&bridge, Some((&token.label, pin))).call(locate());
    by_pin(&token.pin).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    by_pin(NEW_PIN).payload();
    assert!(bridge.log().contains("its PIN was changed"), "{}", bridge.log());
    // A file that cannot be read leaves it so.
    fs::remove_file(&pin).unwrap();
    bridge.hang_up();
    Client::connect_as(&bridge, Some(("signer", PASSWORD))).call(locate()).payload();
}

/// What has ended counts all the same where certificates of clients are judged: only the log can tell.
#[test]
fn what_ends_soon_or_has_ended_is_warned_of_at_the_start_and_at_each_hangup() {
    let (token, directory, ca) = (Token::create(), Scratch::new("hangup"), Ca::new());
    let certified = Certified { ca: &ca, directory: &directory };
    certified.renew_for(1, 10);
    let clients = Ca::for_days(-3);
    let ca_file = directory.file("clients.pem", &clients.pem);
    let crl = directory.file("crl.pem", clients.revoke_for(7, -2));
    let bridge = Bridge::start_with(&token, asking(&certified, &ca_file, &format!("crl = {crl:?}")));
    let (certificate, ca_name, crl_name) =
        (directory.path().join("server.crt").display().to_string(), ca_file.display(), crl.display());
    let warned = || {
        let log = bridge.log();
        [
            format!("WARN  certificate {certificate}: it expires in 10 days"),
            format!("WARN  client CA {ca_name}, CN=rcgen self signed cert: it expired 3 days ago"),
            format!("WARN  list of revoked certificates {crl_name}: it should have been replaced 2 days ago"),
        ]
        .map(|warning| log.matches(&warning).count())
    };
    assert_eq!(warned(), [1, 1, 1], "{}", bridge.log());
    let enters = |serial| {
        let config = certified.client(Some(clients.certify("one", serial)));
        enters(Client::connect_with(&bridge, login(&token), &config, NAME)).is_some()
    };
    assert!(enters(8) && !enters(7));
    bridge.hang_up();
    assert_eq!(warned(), [2, 2, 2]);
    // In order again.
    certified.renew(2);
    directory.file("clients.pem", &ca.pem);
    directory.file("crl.pem", ca.revoke(7));
    bridge.hang_up();
    assert_eq!(warned(), [2, 2, 2]);
    let log = bridge.log();
    assert_eq!(log.matches(": it expire").count() + log.matches("have been replaced").count(), 6, "{log}");
}
