//! PINs, passwords and key material reach neither the log, at its most talkative, nor the text of an error.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use support::bridge::Options;
use support::key::{ecdsa_sha_256, public_key, rsa_sha_256, sign_item, unique_identifier};
use support::message::{Item, Request, authentication, name_attribute};
use support::scratch::Scratch;
use support::secrets::{does_not_hold, no_key_of};
use support::tags::{self, format, operation, query, reason};
use support::ttlv::{Node, bytes, enumeration, integer, malformed, structure, text};
use support::{Bridge, Client, Faulty, KeySpec, Token, until};

const WRONG_PASSWORD: &str = "wrong-6604-password";
const OWN_PASSWORD: &str = "own-1193-password";
/// A PIN that a client sends as a number, by mistake.
const PIN_AS_NUMBER: i32 = 66_047_193;

/// Tables in which the bridge keeps the PIN and a password.
fn kept_secrets(token: &Token, directory: &Scratch) -> String {
    let private = |name: &str, content: &str| {
        let path = directory.file(name, content);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let (pin, password) = (private("pin", &token.pin), private("password", OWN_PASSWORD));
    format!(
        "[[token]]\nname = {label:?}\npin-file = {pin:?}\n[[client]]\nusername = \"own\"\npassword-file = {password:?}\ntoken = {label:?}\n",
        label = token.label
    )
}

/// An EC key made outside the token and put into it, so that its private number is known: (identifier, number). Not every token takes one.
fn known_key(token: &Token) -> Option<(String, Vec<u8>)> {
    let directory = Scratch::new("known");
    let pem = directory.path().join("key.pem");
    let mut command = Command::new("openssl");
    command.args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"]).arg(&pem);
    assert!(command.output().unwrap().status.success());
    let der = directory.path().join("key.der");
    let mut command = Command::new("openssl");
    command.args(["ec", "-outform", "DER", "-in"]).arg(&pem).arg("-out").arg(&der);
    assert!(command.output().unwrap().status.success());
    // ECPrivateKey (RFC 5915): SEQUENCE, version, OCTET STRING of 32 bytes.
    let number = std::fs::read(&der).unwrap()[7..39].to_vec();
    let file = der.to_str().unwrap();
    let write = ["--write-object", file, "--type", "privkey", "--id", "77", "--label", "known", "--usage-sign"];
    token.makes(&KeySpec::ecdsa(256)).then_some(())?;
    token.try_pkcs11_tool(&write)?;
    Some(("77_priv".to_string(), number))
}

/// Whatever holds a secret, or a message with one in it, cannot be printed by accident: were one of these types to get a Debug or
/// a Display, it would have two of the implementations below, and this file would not compile.
#[test]
fn what_holds_secrets_cannot_be_printed() {
    trait Unprintable<Kind> {
        fn is_so() {}
    }
    struct Debugged;
    struct Displayed;
    impl<T> Unprintable<()> for T {}
    impl<T: std::fmt::Debug> Unprintable<Debugged> for T {}
    impl<T: std::fmt::Display> Unprintable<Displayed> for T {}
    use cascade_hsm_bridge::{bridge, kmip, pkcs11, ttlv};
    <pkcs11::Pin<'_> as Unprintable<_>>::is_so();
    <pkcs11::Tokens as Unprintable<_>>::is_so();
    <bridge::access::Clients as Unprintable<_>>::is_so();
    <bridge::Bridge as Unprintable<_>>::is_so();
    <bridge::Peer as Unprintable<_>>::is_so();
    <kmip::Credential<'_> as Unprintable<_>>::is_so();
    <kmip::RequestHeader<'_> as Unprintable<_>>::is_so();
    <kmip::Request<'_> as Unprintable<_>>::is_so();
    <kmip::BatchItem<'_> as Unprintable<_>>::is_so();
    <ttlv::Item<'_> as Unprintable<_>>::is_so();
    <ttlv::Reader<'_> as Unprintable<_>>::is_so();
}

/// Holds that what other programs can see of a process has none of the secrets, and that it leaves no core file.
fn shows_nothing(process: u32, secrets: &[&str]) {
    let read = |name: &str| std::fs::read(format!("/proc/{process}/{name}")).unwrap();
    for name in ["cmdline", "environ", "comm"] {
        let text = String::from_utf8_lossy(&read(name)).into_owned();
        assert!(!text.is_empty(), "{name} of a process that has ended");
        for secret in secrets {
            does_not_hold(&text, secret.as_bytes(), name);
        }
    }
    let limits = String::from_utf8(read("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    // With 1 there is no file, and no program that collects dumps is fed either. core(5)
    let allowed: Vec<_> = core.split_whitespace().skip(4).take(2).collect();
    assert!(allowed.iter().all(|limit| ["0", "1"].contains(limit)), "{core}");
}

#[test]
fn other_programs_see_no_secret_of_the_process_nor_of_the_one_that_proves_a_pin() {
    let (token, directory, faulty) = (Token::create(), Scratch::new("secrets"), Faulty::new());
    let tables = kept_secrets(&token, &directory);
    let bridge = Bridge::start_with(&token, Options { tables, ..faulty.options() });
    Client::connect(&bridge, &token).random(8);
    let secrets = [token.pin.as_str(), OWN_PASSWORD, WRONG_PASSWORD];
    // One PIN more, which is proved by a process of its own: it is looked at while it does so.
    faulty.play("[[fault]]\nfunction = \"C_Login\"\nhang = true\nnext = 1\n");
    let mut other = Client::connect_as(&bridge, Some((&token.label, WRONG_PASSWORD)));
    std::thread::scope(|scope| {
        let refused = scope.spawn(move || other.call(Item::new(operation::LOCATE, vec![])));
        until("the PIN is being proved", || faulty.count("calls-hanging") == 1);
        let provers: Vec<u32> = faulty.processes().into_iter().filter(|process| *process != bridge.pid()).collect();
        assert_eq!(provers.len(), 1, "{provers:?}");
        shows_nothing(provers[0], &secrets);
        faulty.play("");
        refused.join().unwrap().is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    });
    shows_nothing(bridge.pid(), &secrets);
    // Nor in what it keeps.
    for file in std::fs::read_dir(bridge.state_dir()).unwrap() {
        let text = std::fs::read(file.unwrap().path()).unwrap_or_default();
        does_not_hold(&String::from_utf8_lossy(&text), token.pin.as_bytes(), "the PIN");
    }
    assert!(bridge.log().contains("another PIN than the one in force was offered, and is wrong"), "{}", bridge.log());
}

#[test]
fn secrets_stay_out_of_logs_and_error_texts() {
    let token = Token::create();
    let imported = known_key(&token);
    let known = imported.as_ref().map_or("77_priv", |(id, _)| id);
    let directory = Scratch::new("kept");
    let tables = kept_secrets(&token, &directory);
    let bridge = Bridge::start_with(&token, Options { tables, ..Options::default() });
    // A client with a password of the bridge's own, right and wrong.
    let mut own = Client::connect_as(&bridge, Some(("own", OWN_PASSWORD)));
    own.call(Item::new(operation::LOCATE, vec![])).payload();
    own.login = Some(("own".to_string(), WRONG_PASSWORD.to_string()));
    own.call(Item::new(operation::LOCATE, vec![])).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    own.login = Some((OWN_PASSWORD.to_string(), OWN_PASSWORD.to_string()));
    own.call(Item::new(operation::LOCATE, vec![])).is_refused(reason::AUTHENTICATION_NOT_SUCCESSFUL);
    bridge.signal("HUP");
    let cmdline = std::fs::read(format!("/proc/{}/cmdline", bridge.pid())).unwrap();
    let environment = std::fs::read(format!("/proc/{}/environ", bridge.pid())).unwrap();
    let mut client = Client::connect(&bridge, &token);
    let mut texts = Vec::new();
    for bytes in [cmdline, environment] {
        does_not_hold(&String::from_utf8_lossy(&bytes), token.pin.as_bytes(), "the PIN");
        does_not_hold(&String::from_utf8_lossy(&bytes), OWN_PASSWORD.as_bytes(), "a password");
    }
    let mut random = Vec::new();

    // What succeeds.
    for spec in KeySpec::each(&token) {
        let pair = client.create_key_pair(&spec);
        public_key(&client.get_public(&pair.public, None));
        client.on_object(operation::ACTIVATE, &pair.private);
        client.call(Client::rename_item(&pair.private, "renamed")).payload();
        client.attributes(&pair.private, &[]);
        client.locate(vec![name_attribute("renamed")]);
        let parameters = spec.parameters();
        client.sign(&pair.private, parameters, b"data");
        random.push(client.random(32));
        client.revoke(&pair.private);
        client.on_object(operation::DESTROY, &pair.private);
        client.on_object(operation::DESTROY, &pair.public);
    }
    if imported.is_some() {
        client.sign(known, ecdsa_sha_256(), b"data");
    }

    // What is refused.
    let get = |format: u32| vec![unique_identifier(known), enumeration(tags::KEY_FORMAT_TYPE, format)];
    let mut refused = vec![
        Item::new(operation::GET, vec![unique_identifier(known)]),
        sign_item("00_priv", rsa_sha_256(), b"data"),
        sign_item(known, rsa_sha_256(), b"data"),
        KeySpec::ecdsa(255).item(),
        Item::new(operation::CREATE, vec![text(tags::PASSWORD, &token.pin)]),
        Item::new(operation::LOCATE, vec![integer(0x42_0FFF, 1)]),
        Item::new(operation::LOCATE, vec![malformed(tags::MAXIMUM_ITEMS, 2, 3, &[0; 8])]),
        Item::new(operation::LOCATE, vec![text(tags::PASSWORD, &token.pin)]),
        Item::new(operation::GET, vec![bytes(tags::UNIQUE_IDENTIFIER, token.pin.as_bytes())]),
    ];
    refused.extend([format::RAW, 0x04, 0x06, 0x0E].map(|format| Item::new(operation::GET, get(format))));
    for item in refused {
        let answer = client.call(item);
        assert_eq!(answer.status, 1, "{answer:?}");
        texts.extend(answer.message);
    }

    // Who is refused, before and with other tokens.
    for (label, pin) in [(token.label.as_str(), WRONG_PASSWORD), ("nobody", WRONG_PASSWORD), (&token.pin, &token.label)]
    {
        let mut stranger = Client::connect_as(&bridge, Some((label, pin)));
        for operation in [operation::LOCATE, operation::RNG_RETRIEVE] {
            let answer = stranger.call(Item::new(operation, vec![]));
            texts.extend(answer.message);
        }
    }

    // Headers that go wrong behind, in and before the credential.
    let good =
        client.request(vec![Item::new(operation::QUERY, vec![enumeration(tags::QUERY_FUNCTION, query::OBJECTS)])]);
    let with_header = |change: &dyn Fn(&mut Vec<Node>)| {
        let mut fields = good.header().children().to_vec();
        change(&mut fields);
        structure(tags::REQUEST_MESSAGE, vec![structure(tags::REQUEST_HEADER, fields), good.items[0].to_node()])
    };
    let credential = authentication(&token.label, &token.pin);
    let odd_password = Node { tag: tags::PASSWORD, ..bytes(0, token.pin.as_bytes()) };
    let odd_value = structure(tags::CREDENTIAL_VALUE, vec![text(tags::USERNAME, &token.label), odd_password]);
    let odd = structure(tags::CREDENTIAL, vec![enumeration(tags::CREDENTIAL_TYPE, 1), odd_value]);
    let digits = integer(tags::PASSWORD, PIN_AS_NUMBER);
    let digits = structure(tags::CREDENTIAL_VALUE, vec![text(tags::USERNAME, &token.label), digits]);
    let digits = structure(tags::CREDENTIAL, vec![enumeration(tags::CREDENTIAL_TYPE, 1), digits]);
    for message in [
        with_header(&|fields| drop(fields.pop())),
        with_header(&|fields| fields.swap(1, 2)),
        with_header(&|fields| fields.insert(1, credential.clone())),
        with_header(&|fields| fields.insert(1, integer(0x42_0FFF, 1))),
        with_header(&|fields| fields[1] = structure(tags::AUTHENTICATION, vec![odd.clone()])),
        with_header(&|fields| fields[1] = structure(tags::AUTHENTICATION, vec![digits.clone()])),
        with_header(&|fields| fields[1] = text(tags::AUTHENTICATION, &token.pin)),
        with_header(&|fields| fields.insert(1, text(tags::PASSWORD, &token.pin))),
    ] {
        let response = client.ask_node(&message);
        response.single().is_refused_as_a_whole(response.single().reason.unwrap());
        texts.extend(response.single().message.clone());
    }
    // A frame that is none, in the middle of which the PIN stands.
    let mut spoilt = Request::new(vec![]).login(&token.label, &token.pin).encode();
    spoilt[3] = 8;
    client.send(&spoilt);
    client.receive().expect("an answer");
    Client::connect(&bridge, &token)
        .call(Item::new(operation::CREATE, vec![]))
        .is_refused(reason::OPERATION_NOT_SUPPORTED);

    let (status, log) = bridge.stop();
    assert!(status.success(), "{status}");
    assert!(log.contains("TRACE"), "the log is not at the level asked for");
    texts.push(log);
    for text in &texts {
        does_not_hold(text, token.pin.as_bytes(), "the PIN");
        does_not_hold(text, OWN_PASSWORD.as_bytes(), "a password of the bridge's own");
        does_not_hold(text, WRONG_PASSWORD.as_bytes(), "a wrong password");
        does_not_hold(text, PIN_AS_NUMBER.to_string().as_bytes(), "a PIN in digits");
        imported.iter().for_each(|(_, number)| does_not_hold(text, number, "a private key"));
        random.iter().for_each(|random| does_not_hold(text, random, "random data"));
    }
    // What a client is told names fields of KMIP, not files of the server.
    texts.pop();
    for text in &texts {
        assert!(!text.contains('/') && !text.contains(&token.label), "{text}");
    }
}

#[test]
fn finds_a_secret_however_it_is_spelt() {
    let secret = b"secret-4711-of-the-user";
    let is_found = |text: &str| std::panic::catch_unwind(|| does_not_hold(text, secret, "it")).is_err();
    assert!(!is_found("nothing of the kind, not even secret-4712-of-the-user"));
    for text in [
        "in secret-4711-of-the-user in",
        "in 7365637265742D343731312D6F662D7468652D75736572 in",
        "73:65:63:72:65:74:2d:34:37:31:31:2d:6f:66:2d:74:68:65:2d:75:73:65:72",
        "[115, 101, 99, 114, 101, 116, 45, 52, 55, 49, 49, 45, 111, 102, 45, 116, 104, 101, 45, 117, 115, 101, 114]",
        // openssl base64, of the secret alone and behind one and two other bytes.
        "c2VjcmV0LTQ3MTEtb2YtdGhlLXVzZXI=",
        "OnNlY3JldC00NzExLW9mLXRoZS11c2Vy",
        "OjpzZWNyZXQtNDcxMS1vZi10aGUtdXNlcg==",
    ] {
        assert!(is_found(text), "{text}");
    }
}

#[test]
fn finds_a_private_key_however_it_is_spelt() {
    let directory = Scratch::new("key");
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = key.serialize_pem();
    let path = directory.file("server.key", &pem);
    let is_found = |text: &str| std::panic::catch_unwind(|| no_key_of(&path, text)).is_err();
    assert!(!is_found(&rcgen::KeyPair::generate().unwrap().serialize_pem()));
    assert!(!is_found(&format!("{:?}", key.public_key_raw())));
    assert!(is_found(&pem) && is_found(pem.lines().nth(1).unwrap()));
    let der = key.serialized_der();
    let hex = der.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    assert!(is_found(&hex) && is_found(&format!("{der:?}")) && is_found(&format!("{:?}", &der[36..68])));
}
