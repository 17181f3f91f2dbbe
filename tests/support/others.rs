//! Keys as other signers make them: straight through PKCS#11, with their templates and identifiers.
//!
//! A module finds its tokens through its environment, which a test cannot set for itself: so the test program starts itself again, and
//! a test of the name [`MAKER`], which every file that uses this has, does the work there.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;

use super::hsm::{Hsm, skipped};
use super::token::Token;

type Done = Result<(), Error>;

/// The test that makes keys when it is started by this, and does nothing else.
pub const MAKER: &str = "makes_keys_where_it_is_told_to";

/// What it says of a module that refuses, and of itself once it can see what becomes of the token.
const REFUSED: &str = "refused: ";
const READY: &str = "ready";
const SEEN: &str = "seen";

const WORK: &str = "KEYS_OF_OTHERS_WORK";
const SLOT: &str = "KEYS_OF_OTHERS_SLOT";
const PIN: &str = "KEYS_OF_OTHERS_PIN";

/// The DER of secp256r1's and secp256k1's object identifiers.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const SECP256K1: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a];

/// Has `work` done on a token: "incumbent rsa", "opendnssec", ... ; `id` is the CKA_ID in hexadecimal. The error is what the module says
/// where it does not take their templates.
pub fn make(token: &Token, work: &str, id: &str) -> Result<(), String> {
    let output = maker_for(token, work, id).output().expect("this program starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let refused = said.lines().find_map(|line| line.split_once(REFUSED)).map(|(_, why)| why.to_string());
    let is_done = output.status.success() && (said.contains("made") || refused.is_some());
    assert!(is_done, "{said}{}", String::from_utf8_lossy(&output.stderr));
    // Who works on every module is to be seen doing it somewhere.
    assert!(refused.is_none() || token.hsm() != Hsm::SoftHsm2, "{refused:?}");
    refused.map_or(Ok(()), Err)
}

/// The same where the test is left out if the module does not take it.
pub fn cannot_make(token: &Token, work: &str, id: &str) -> bool {
    let made = make(token, work, id);
    skipped(
        made.is_err(),
        format!("{} does not make keys of '{work}': {}", token.hsm(), made.err().unwrap_or_default()),
    )
}

/// Whether a process that has the module loaded does not see what another one makes then.
pub fn sees_nothing_new(token: &Token) -> bool {
    let mut watcher =
        maker_for(token, "watch", "fe").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(watcher.stdout.take().expect("its output")).lines().map_while(Result::ok);
    let is_ready = lines.any(|line| line.ends_with(READY));
    token.pkcs11_tool(&["--keypairgen", "--key-type", token.any_kind(), "--id", "fe", "--usage-sign"]);
    watcher.stdin.take().expect("its input").write_all(b"look\n").expect("it waits");
    let sees = lines.any(|line| line.ends_with(SEEN));
    let _ = watcher.wait();
    for half in ["privkey", "pubkey"] {
        token.pkcs11_tool(&["--delete-object", "--type", half, "--id", "fe"]);
    }
    assert!(is_ready && (sees || token.hsm() != Hsm::SoftHsm2));
    !sees
}

fn maker_for(token: &Token, work: &str, id: &str) -> Command {
    let mut again = token.command(std::env::current_exe().expect("this program"));
    again.args(["--exact", MAKER, "--nocapture"]).env(WORK, format!("{work},{id}"));
    again.env(SLOT, token.slot().to_string()).env(PIN, &token.pin);
    again
}

/// What the test [`MAKER`] does.
pub fn maker() {
    let Ok(work) = std::env::var(WORK) else { return };
    let (work, id) = work.split_once(',').expect("work and id");
    let id: Vec<u8> = id.as_bytes().chunks(2).map(|pair| byte(std::str::from_utf8(pair).expect("digits"))).collect();
    let session = log_in(&Token::module());
    let done = match work {
        "incumbent rsa" => incumbent(&session, &id, &Mechanism::RsaPkcsKeyPairGen, &rsa()),
        "incumbent p256" => incumbent(&session, &id, &Mechanism::EccKeyPairGen, &[Attribute::EcParams(P256.to_vec())]),
        "opendnssec" => opendnssec(&session, &id),
        "odd" => odd(&session, &id),
        "watch" => watch(&session, id),
        other => panic!("{other}"),
    };
    match done {
        Ok(()) => println!("made"),
        Err(Error::Pkcs11(rv, function)) => println!("{REFUSED}{function:?}: {rv:?}"),
        Err(other) => panic!("{other}"),
    }
}

fn byte(digits: &str) -> u8 {
    u8::from_str_radix(digits, 16).expect("hexadecimal")
}

fn log_in(module: &Path) -> Session {
    let pkcs11 = Pkcs11::new(module).expect("the module loads");
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).expect("C_Initialize");
    let slot: u64 = std::env::var(SLOT).expect("a slot").parse().expect("a number");
    let session = pkcs11.open_rw_session(slot.try_into().expect("a slot's id")).expect("a session");
    let pin = AuthPin::new(std::env::var(PIN).expect("a PIN").into());
    session.login(UserType::User, Some(&pin)).expect("a login");
    session
}

fn rsa() -> [Attribute; 2] {
    [Attribute::ModulusBits(2048.into()), Attribute::PublicExponent(vec![1, 0, 1])]
}

/// Both halves under one random CKA_ID of 20 bytes, with the label that the client wished for.
fn incumbent(session: &Session, id: &[u8], mechanism: &Mechanism<'_>, kind: &[Attribute]) -> Done {
    let mut public = vec![
        Attribute::Id(id.to_vec()),
        Attribute::Verify(true),
        Attribute::Encrypt(false),
        Attribute::Wrap(false),
        Attribute::Token(true),
        Attribute::Label(b"example.org-12345-zsk-pub".to_vec()),
    ];
    public.extend_from_slice(kind);
    let private = [
        Attribute::Id(id.to_vec()),
        Attribute::Sign(true),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Label(b"example.org-12345-zsk-pri".to_vec()),
    ];
    session.generate_key_pair(mechanism, &public, &private).map(drop)
}

/// Sixteen bytes of CKA_ID, which the label says in lower-case hexadecimal; with SkipPublicKey, which is the default, the public key
/// is an object of the session only, and destroyed at once.
fn opendnssec(session: &Session, id: &[u8]) -> Done {
    let label: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut public = vec![
        Attribute::Label(label.clone().into_bytes()),
        Attribute::Id(id.to_vec()),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Verify(true),
        Attribute::Encrypt(false),
        Attribute::Wrap(false),
        Attribute::Token(false),
    ];
    public.extend(rsa());
    let private = [
        Attribute::Label(label.into_bytes()),
        Attribute::Id(id.to_vec()),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Sign(true),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Sensitive(true),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Extractable(false),
    ];
    let (public, _) = session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private)?;
    session.destroy_object(public)
}

/// One of each kind of object that a listing may stumble over.
fn odd(session: &Session, id: &[u8]) -> Done {
    let named = |label: &[u8]| vec![Attribute::Token(true), Attribute::Label(label.to_vec())];
    let pair = |public: Vec<Attribute>, private: Vec<Attribute>| {
        session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)
    };
    let on = |params: &[u8]| vec![Attribute::EcParams(params.to_vec()), Attribute::Verify(true)];
    // A curve that is not served.
    let of_id = |last: u8| vec![Attribute::Id([id, &[last]].concat())];
    pair([named(b"k1"), on(SECP256K1), of_id(1)].concat(), [named(b"k1"), of_id(1)].concat())?;
    // No CKA_ID.
    pair([named(b"nameless"), on(P256)].concat(), named(b"nameless"))?;
    // A label that is no text.
    pair([named(b"\xff\xfe\x80"), on(P256), of_id(2)].concat(), [named(b"\xff\xfe\x80"), of_id(2)].concat())?;
    // Objects that are no key pairs.
    let secret = [named(b"wrapping"), of_id(3), vec![Attribute::ValueLen(32.into())]].concat();
    session.generate_key(&Mechanism::AesKeyGen, &secret)?;
    let data = [named(b"data"), vec![Attribute::Class(ObjectClass::DATA), Attribute::Value(vec![7; 9])]].concat();
    session.create_object(&data)?;
    // Half pairs, each in its own way: of the public key there is no private one, and of another type than any that is served.
    let other = [
        named(b"old"),
        of_id(4),
        vec![
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(KeyType::DH),
            Attribute::Prime(vec![0xc1; 128]),
            Attribute::Base(vec![3; 128]),
            Attribute::Value(vec![5; 128]),
        ],
    ]
    .concat();
    session.create_object(&other).map(drop)
}

/// Looks for the private key with that CKA_ID when it is told to.
fn watch(session: &Session, id: Vec<u8>) -> Done {
    let find = || session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Id(id.clone())]);
    assert_eq!(find()?, []);
    println!("{READY}");
    std::io::stdin().read_line(&mut String::new()).expect("a word");
    if !find()?.is_empty() {
        println!("{SEEN}");
    }
    Ok(())
}
